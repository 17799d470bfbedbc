"""Files of series and windows: read as they were meant or refused with the fix, and written so that others can read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.jsonl import JsonLinesFile
from gluonts.dataset.pandas import PandasDataset
from typer.testing import CliRunner

from anydiff.cli.app import app
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset
from anydiff.recipes.statistics import fit_to_data
from anydiff_timeseries.bundle import read_bundle
from anydiff_timeseries.data import CSVSeries
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.files import parse_source, read_series
from anydiff_timeseries.tables import Layout

HOURS = pd.date_range("2020-01-01", periods=5, freq="h")
VALUES = [1.5, 2.0, 3.25, -4.0, 5e-3]


def read(path, text, freq=None, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_series(path, freq, Layout(**options))


def rows(*cells, names="when,load", separator=","):
    hours = [str(hour) for hour in HOURS]
    return (
        "\n".join([names, *(separator.join([hour, *more]) for hour, *more in zip(hours, *cells, strict=True))]) + "\n"
    )


PLAIN = [repr(value) for value in VALUES]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (rows(PLAIN), {}),
        (rows(PLAIN).replace("\n", "\r\n"), {}),
        (b"\xef\xbb\xbf" + rows(PLAIN).encode(), {}),
        (rows(PLAIN).encode("utf-16"), {"encoding": "utf-16"}),
        (rows(PLAIN, names="when,Belastung \xfc").encode("latin-1"), {"encoding": "latin-1"}),
        (rows(PLAIN).split("\n", 1)[1], {"header": False}),
        (rows(["9"] * 5, PLAIN, names="when,other,load"), {"value": "load"}),
        (rows(PLAIN, ["9"] * 5, names="timestamp,target,x"), {}),
        (
            rows([one.replace(".", ",") for one in PLAIN], names="when;load", separator=";"),
            {"separator": ";", "decimal": ","},
        ),
        (rows([f'"{one.replace(".", ",")}"' for one in PLAIN]), {"decimal": ","}),
        (rows(PLAIN, names="when\tload", separator="\t"), {"separator": "\t"}),
    ],
)
def test_csv_of_one_reading(tmp_path, text, options):
    (one,) = read(tmp_path / "load.csv", text, **options)
    assert str(one.start) == "2020-01-01 00:00"
    assert one.values.tolist() == VALUES


def test_tabs_by_the_ending(tmp_path):
    (one,) = read(tmp_path / "load.tsv", rows(PLAIN, names="when\tload", separator="\t"))
    assert one.values.tolist() == VALUES


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (rows(["9"] * 5, PLAIN, names="when,other,load"), {}, "'when', 'other', 'load'.*give value"),
        (rows(PLAIN).split("\n", 1)[1], {}, "may be data and not names; give header"),
        (rows(PLAIN, names="when;load", separator=";"), {}, "separator: ';'"),
        (rows([one.replace(".", ",") for one in PLAIN]), {}, "3 cells, but there are 2 columns.*decimal"),
        (rows([f'"{one.replace(".", ",")}"' for one in PLAIN]), {}, "give decimal: ','"),
        (rows(["1.234,5"] * 5, names="when;load", separator=";"), {"separator": ";", "decimal": ","}, "no other marks"),
        (rows(PLAIN, names="when,Belastung \xfc").encode("latin-1"), {}, "encoding: latin-1"),
        (rows(PLAIN).encode("utf-16"), {}, "give encoding: utf-16"),
        (rows(PLAIN, PLAIN, names="when,load,load"), {}, "two columns named 'load'"),
        (rows(["-999", *PLAIN[1:]]), {}, r"-999 in 1 of 5 rows.*missing: \[-999\]"),
        (rows(["inf", *PLAIN[1:]]), {}, "'inf', which is infinite"),
        (rows(["1e999", *PLAIN[1:]]), {}, "infinite"),
        (rows(["1_0", *PLAIN[1:]]), {}, "no number"),
        (rows(["\u0663", *PLAIN[1:]]), {}, "no number"),
        (rows(["x"] * 5), {}, "row 1 of column 'load' .* holds 'x'"),
        (rows(PLAIN), {"value": "lod"}, "no column 'lod'; it has 'when', 'load'"),
        (rows(PLAIN), {"value": "when"}, "cannot be stamps, values and names at once"),
        (rows(PLAIN).replace("2020-01-01", "01/02/2020"), {}, "1 February or 2 January"),
        ("when,load\n1577836800,1\n1577840400,2\n", {}, "no unit; give date_format"),
        ("when,load\n", {}, "no rows"),
        ("when,load\n,1\n", {}, "no time stamp in row 1"),
        (b"when,load\n2020-01-01,\x00\n", {}, "zero bytes"),
        (b"PAR1\x15\x04\x15\x00", {}, "zero bytes|give encoding"),
        ('when,load\n"2020-01-01,1\n', {}, "CSV file"),
        ("item_id,timestamp,target\n,2020-01-01,1\n", {}, "'item_id' .* is empty in row 1"),
    ],
)
def test_csv_of_two_readings_or_none(tmp_path, text, options, says):
    with pytest.raises(FileFormatError, match=says) as error:
        read(tmp_path / "load.csv", text, "h", **options)
    assert "load.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_values_are_told_or_plain(tmp_path):
    missing = ["", "NA", "NaN", "null", "7"]
    (one,) = read(tmp_path / "load.csv", rows(missing))
    assert np.isnan(one.values).tolist() == [True] * 4 + [False]
    (one,) = read(tmp_path / "load.csv", rows(["-999", *PLAIN[1:]]), missing=[-999])
    assert np.isnan(one.values[0])
    (one,) = read(tmp_path / "load.csv", rows(["-999", *PLAIN[1:]]), missing=[])
    assert one.values[0] == -999


def test_epochs_with_their_unit(tmp_path):
    text = "".join(f"{1577836800 + 3600 * hour},{value}\n" for hour, value in enumerate(VALUES))
    (one,) = read(tmp_path / "load.csv", "when,load\n" + text, date_format="s")
    assert (str(one.start), one.start.freqstr, one.values.tolist()) == ("2020-01-01 00:00", "h", VALUES)


def test_bad_layouts():
    for options, says in (
        ({"decimal": ";"}, "decimal"),
        ({"separator": ""}, "separator"),
        ({"header": "yes"}, "header"),
        ({"missing": "-999"}, "missing"),
        ({"missing": ["x"]}, "missing"),
    ):
        with pytest.raises(AnydiffError, match=says):
            Layout.parse(options)
    with pytest.raises(UnknownNameError, match="day_first"):
        Layout.parse({"dayfirst": True})
    with pytest.raises(AnydiffError, match="names no file"):
        parse_source("{value: load}")
    path, layout = parse_source("{path: a.csv, value: 2, missing: [-1]}")
    assert (str(path), layout.value, layout.missing) == ("a.csv", "2", (-1.0,))


# JSON lines -----------------------------------------------------------------------------------------------------------


def line(**changes) -> str:
    return json.dumps({"start": "2020-01-01 00:00:00", "target": VALUES, "item_id": "a", **changes})


def test_json_lines_are_those_of_gluonts(tmp_path):
    text = line() + "\n\n" + line(item_id="b", target=[1.0, None, "NaN", 4.0, 5])
    first, second = read(tmp_path / "load.jsonl", text, "h")
    assert (first.name, first.values.tolist(), second.name) == ("a", VALUES, "b")
    assert np.isnan(second.values).tolist() == [False, True, True, False, False]
    (tmp_path / "load.jsonl").write_text(line() + "\n" + line(item_id="b"))
    theirs = [entry["item_id"] for entry in JsonLinesFile(tmp_path / "load.jsonl")]
    assert theirs == [one.name for one in read_series(tmp_path / "load.jsonl", "h")]
    (one,) = read(tmp_path / "load.json", f"[{line()}]", "h")
    assert one.values.tolist() == VALUES


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (line(target=[float("inf"), 1]), "infinite"),
        (line().replace("1.5", "1e999"), "infinite"),
        (line(target=[True, 1.0]), "no list of numbers"),
        (line(target="abc"), "no list of numbers"),
        (line(target=["a"]), "no number"),
        (line(target=[[1.0]]), "no number|univariate"),
        (line(target=[]), "univariate and not empty"),
        (line(target=[10**400]), "no number"),
        (line(target=[-9999, 1.0]), r"missing: \[-9999\]"),
        (line(start=1577836800), "no unit"),
        (line(start="01/02/2020"), "1 February or 2 January"),
        (line(freq="D"), "frequency 'D', but 'h'"),
        ('{"start": "2020-01-01"}', "no series with start and target"),
        ("[1, 2]", "line 1 .* no series"),
        ("{", "line 1 of"),
        ("[" * 5000, "nested"),
        ("\xff", "load.jsonl"),
        ("", "holds no series"),
    ],
)
def test_bad_json_lines(tmp_path, text, says):
    with pytest.raises(AnydiffError, match=says) as error:
        read(tmp_path / "load.jsonl", text.encode("latin-1"), "h")
    assert "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path):
    for name in ("load.parquet", "load.txt", "load", "load.csv.gz"):
        with pytest.raises(FileFormatError, match=r"read from \.csv, \.tsv, \.jsonl, \.json; write it with"):
            read(tmp_path / name, rows(PLAIN))
    with pytest.raises(AnydiffError, match="check the path"):
        read_series(tmp_path / "none.csv", "h")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(AnydiffError, match="check the path"):
        read_series(tmp_path / "folder.csv", "h")


def test_mutated_files_end_in_one_sentence(tmp_path):
    """A seeded sample of damage: every file is read whole and finite, or refused in a sentence."""
    generator = np.random.default_rng(0)
    tokens = [
        b"NaN",
        b"inf",
        b"1e999",
        b"\x00",
        b"\xff",
        b"[" * 100,
        b"9" * 400,
        b'"',
        b",",
        b"\n",
        b"0001-01-01",
        b"+05:00",
    ]
    refused: list[str] = []
    for number in range(150):
        name, text = [("a.csv", rows(PLAIN)), ("b.jsonl", line() + "\n")][number % 2]
        content = bytearray(text.encode())
        for _ in range(1 + number % 3):
            place = int(generator.integers(len(content)))
            content[place : place + int(generator.integers(4))] = tokens[int(generator.integers(len(tokens)))]
        try:
            found = read(tmp_path / name, bytes(content), "h")
        except AnydiffError as error:
            refused.append(str(error))
            continue
        assert all(np.isfinite(one.values).sum() and not np.isinf(one.values).any() for one in found)
    assert 50 < len(refused) < 150
    assert not any("\n" in sentence for sentence in refused)


# Data sets ------------------------------------------------------------------------------------------------------------


def write_months(path, names=("a", "b")) -> None:
    months = pd.date_range("2000-01-31", periods=60, freq="ME")
    wave = 10 + 3 * np.sin(np.arange(60) * np.pi / 6)
    frames = [pd.DataFrame({"item_id": n, "timestamp": months, "target": wave + k}) for k, n in enumerate(names)]
    pd.concat(frames).to_csv(path, index=False)


def test_own_data_keep_their_frequency_and_their_season(tmp_path):
    path = tmp_path / "months.csv"
    write_months(path)
    data = CSVSeries(str(path), "2003-01", context=12, prediction=3, unit="kt")
    assert data.domain.codec == {"context": 12, "prediction": 3, "freq": "M", "season": 12, "unit": "kt"}
    assert [one.name for one in data.series] == ["a", "b"]
    assert len(data) == 2 * (36 - 15 + 1)
    assert [(one.name, str(one.stamps(data.domain.frequency, 1)[0].date())) for one in data.case_labels([0, 23])] == [
        ("a", "2000-01-31"),
        ("b", "2000-02-29"),
    ]
    assert CSVSeries(str(path), "2003-01", context=6, prediction=3).domain.season == 1
    with pytest.raises(AnydiffError, match="'h', but its time stamps are mostly 31 D apart"):
        CSVSeries(str(path), "2003-01", freq="h", context=12, prediction=3)
    path.write_text(path.read_text() + "a,2000-01-31,9\n")
    with pytest.raises(AnydiffError, match="'a' has 1 doubled time stamps"):
        CSVSeries(str(path), "2003-01", context=12, prediction=3)


def test_training_takes_frequency_season_and_unit_from_the_data(tmp_path):
    path = tmp_path / "months.csv"
    write_months(path, ("a",))
    sizes = ["domain.options.context=12", "domain.options.prediction=3", "dataset.name=timeseries/csv"]
    own = f"path: {path}, boundary: 2003-01-01, context: 12, prediction: 3"
    recipe = load_recipe("timeseries/traffic", [*sizes, f"dataset.options={{{own}, unit: kt}}"])
    fitted, data = fit_to_data(recipe)
    assert fitted.domain.options == {"context": 12, "prediction": 3, "freq": "ME", "season": 12, "unit": "kt"}
    assert len(data) == 22
    assert build_dataset(fitted, "test").domain.codec == data.domain.codec
    with pytest.raises(AnydiffError, match=r"domain.options.freq is 'D', but the training data .* say 'ME'"):
        fit_to_data(load_recipe("timeseries/traffic", [*sizes, f"dataset.options={{{own}}}", "domain.options.freq=D"]))
    # Where nothing is fitted, data of another frequency are refused.
    same_but_freq = [*sizes, f"dataset.options={{{own}, unit: vehicles per hour}}", "domain.options.season=12"]
    with pytest.raises(AnydiffError, match="freq = 'M', but domain 'timeseries' says 'h'"):
        build_dataset(load_recipe("timeseries/traffic", same_but_freq), "train")
    other = load_recipe("timeseries/traffic", ["dataset.name=timeseries/pm25", "dataset.options={}"])
    assert fit_to_data(other)[0].domain.options["unit"] == "ug/m3"


# Windows --------------------------------------------------------------------------------------------------------------


def windows(domain: TimeSeries, zone: str | None = None):
    stamps = pd.date_range("2020-01-30", periods=40, freq="D", tz=zone)
    rng = np.random.default_rng(0)
    return [
        pd.Series(rng.normal(size=domain.length), index=stamps[k : k + domain.length], name=name)
        for k, name in ((0, "NA"), (3, "b, c"), (0, "NA"))
    ]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_windows_are_read_back_by_this_domain_pandas_and_gluonts(tmp_path, zone):
    domain, path = TimeSeries(6, 3, "D", 3), tmp_path / "forecast.csv"
    written = windows(domain, zone)
    domain.write(written, path)
    for one, two in zip(written, domain.read(path), strict=True):
        np.testing.assert_array_equal(one, two)
        assert two.index.equals(one.index)
        assert two.name == one.name
    table = pd.read_csv(path, parse_dates=["timestamp"], keep_default_na=False)
    assert list(table.columns) == ["window", "item_id", "sample", "step", "timestamp", "target"]
    assert table.groupby("window")["sample"].first().tolist() == [0, 0, 1]
    ahead = table[table["step"] >= 0]
    assert ahead["timestamp"].iloc[0] == written[0].index[6]
    if zone is None:
        data = PandasDataset.from_long_dataframe(
            ahead[ahead["sample"] == 0], item_id="item_id", timestamp="timestamp", target="target", freq="D"
        )
        found = {entry["item_id"]: entry for entry in data}
        np.testing.assert_allclose(found["b, c"]["target"], written[1].to_numpy()[6:], rtol=1e-6)
        assert str(found["b, c"]["start"]) == "2020-02-08"


def test_windows_that_do_not_fit_are_refused(tmp_path):
    domain, path = TimeSeries(6, 3, "D", 3), tmp_path / "forecast.csv"
    with pytest.raises(AnydiffError, match="1 of 4 windows have no time stamps"):
        domain.write([*windows(domain), np.ones(9)], path)
    with pytest.raises(AnydiffError, match=r"\.parquet.*\.csv"):
        domain.write(windows(domain), tmp_path / "forecast.parquet")
    assert list(tmp_path.iterdir()) == []
    domain.write(windows(domain), path)
    text = path.read_text()
    for change, says in (
        (("0,NA,0,-6,", "0,x,0,-6,"), "several names"),
        (("0,NA,0,-6,2020-01-30", "0,NA,0,-6,2021-01-30"), "out of order"),
        (("0,NA,0,-6,", "0,NA,0,-5,"), "does not have the steps"),
        (("0,NA,0,-6,", "x,NA,0,-6,"), "whole numbers"),
        (("2020-01-30 00:00:00,0.1257", "2020-01-30 00:00:00,NaN,0.1257"), "cells"),
    ):
        assert change[0] in text
        path.write_text(text.replace(*change, 1))
        with pytest.raises(FileFormatError, match=says):
            domain.read(path)
    path.write_text("window,step,target\n0,-6,nan\n")
    with pytest.raises(AnydiffError, match="not finite"):
        domain.read(path)


def test_samples_are_matched_with_the_window_they_are_of(tmp_path):
    domain = TimeSeries(12, 3, "ME", 12)
    path = tmp_path / "months.csv"
    write_months(path)
    data = CSVSeries(str(path), "2003-01", "test", context=12, prediction=3)
    labels = data.case_labels(range(len(data)))
    drawn = domain.labelled(domain.decode(data.batch([5, 2, 5])[0]), [labels[k] for k in (5, 2, 5)], [0, 0, 1])
    domain.write(drawn, tmp_path / "drawn.csv")
    assert domain.match(domain.read(tmp_path / "drawn.csv"), labels) == [5, 2, 5]
    assert domain.match(domain.decode(data.batch([5])[0]), labels) is None
    with pytest.raises(AnydiffError, match=r"window 0 begins at 2020-01-30 .* none of the"):
        domain.match(windows(TimeSeries(12, 3, "D", 3)), labels)


# Command line ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("histories")
    values, hours = read_bundle("traffic").values[-200:], pd.date_range("2018-09-01", periods=200, freq="h")
    frames = [
        pd.DataFrame({"item_id": n, "timestamp": hours, "target": values * k}) for k, n in ((1, "I-94"), (2, "b"))
    ]
    pd.concat(frames).to_csv(folder / "long.csv", index=False)
    frames[0][["timestamp", "target"]].assign(x=1).to_csv(
        folder / "wide.csv", index=False, header=["when", "load", "x"]
    )
    return folder


def anydiff(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_forecasts_of_a_file_have_names_and_stamps(histories, tmp_path):
    out, picture = tmp_path / "f.csv", tmp_path / "f.png"
    asked = ["sample", "timeseries/traffic", "--nfe", 2, "--members", 3, "--out", out, "--picture", picture]
    result = anydiff(*asked, "--condition", f"observed={histories / 'long.csv'}")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out, parse_dates=["timestamp"])
    ahead = table[table["step"] >= 0]
    assert ahead.groupby(["item_id", "sample"]).size().to_dict() == {
        (n, k): 24 for n in ("I-94", "b") for k in range(3)
    }
    # The file ends at 2018-09-09 07:00.
    assert ahead["timestamp"].min() == pd.Timestamp("2018-09-09 08:00")
    assert ahead["timestamp"].max() == pd.Timestamp("2018-09-10 07:00")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_a_file_leaves_open_is_told_on_the_command_line(histories, tmp_path):
    asked = ["sample", "timeseries/traffic", "--nfe", 2, "--count", 2, "--out", tmp_path / "f.csv", "--condition"]
    path = histories / "wide.csv"
    result = anydiff(*asked, f"observed={path}")
    assert result.exit_code != 0
    assert "give value" in str(result.exception) + result.output
    assert not (tmp_path / "f.csv").exists()
    result = anydiff(*asked, f"observed={{path: {path}, value: load}}")
    assert result.exit_code == 0, result.output
    assert pd.read_csv(tmp_path / "f.csv")["item_id"].unique().tolist() == ["load"]


def test_held_out_windows_have_names_and_stamps_and_are_judged_by_them(tmp_path):
    out = tmp_path / "held-out.csv"
    asked = ["sample", "timeseries/traffic", "--nfe", 2, "--members", 1, "--cases", 16, "--out", out]
    assert anydiff(*asked).exit_code == 0
    table = pd.read_csv(out)
    assert set(table["item_id"]) == {"traffic"}
    assert table["timestamp"].nunique() > 192
    result = anydiff("evaluate", "timeseries/traffic", "--samples", out)
    assert result.exit_code == 0, result.output
    assert "judged 16 samples against 16 held-out examples" in result.output
    kept = [line for line in out.read_text().splitlines() if not line.startswith("3,")]
    out.write_text("\n".join(kept) + "\n")
    assert "against 15 held-out examples" in anydiff("evaluate", "timeseries/traffic", "--samples", out).output


def test_unconditional_samples_have_a_picture_and_no_stamps(tmp_path):
    out, picture = tmp_path / "free.csv", tmp_path / "free.png"
    asked = ["sample", "timeseries/traffic", "--nfe", 2, "--count", 2, "--out", out, "--picture", picture]
    assert anydiff(*asked).exit_code == 0
    assert out.read_text().startswith("window,step,target\n0,-168,")
    assert picture.read_bytes().startswith(b"\x89PNG")
    TimeSeries(6, 3, season=3).draw([np.ones(9), np.arange(9.0)], picture, [])
