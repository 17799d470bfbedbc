"""Series with gaps and means over days, restored from CSV to CSV, in their own units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from anydiff.cli.main import run
from anydiff.pipeline import load

RECIPE = "timeseries/traffic"


@pytest.fixture(scope="module")
def truth():
    """One held-out window of hourly traffic, in vehicles per hour, with its time stamps."""
    pipeline = load(RECIPE)
    window = pipeline.reference(40)
    values = pipeline.domain.values(window.states, window.condition)[30].numpy()
    return pd.Series(values, index=pd.date_range("2024-01-01", periods=len(values), freq="h"), name="target")


def written(path, series):
    frame = pd.DataFrame({"timestamp": series.index, "target": series.to_numpy()})
    frame.to_csv(path, index=False)
    return path


def restored(path, out, *arguments):
    ask = ["restore", RECIPE, "--measurement", str(path), "--members", "8", "--nfe", "12", "--out", str(out)]
    assert run([*ask, *arguments]) == 0
    table = pd.read_csv(out)
    return table["target"].to_numpy().reshape(8, -1)


def test_gaps_are_filled(tmp_path, truth):
    """Half of the hours hidden in blocks: better than the mean of what was seen, and near what was seen."""
    hidden = (np.arange(len(truth)) // 8) % 2 == 1
    found = restored(
        written(tmp_path / "gaps.csv", truth.mask(hidden)), tmp_path / "out.csv", "--noise", str(0.02 * truth.mean())
    )
    mean = found.mean(0)
    level = truth.abs().mean()
    assert np.abs(mean - truth)[~hidden].mean() < 0.1 * level
    assert np.abs(mean - truth)[hidden].mean() < 0.7 * np.abs(truth - truth[~hidden].mean())[hidden].mean()


def test_means_of_days(tmp_path, truth):
    days = truth.resample("D").mean()
    options = ["--operator", "average-pooling", "--operator-option", "factor=24", "--noise", str(0.02 * truth.mean())]
    found = restored(written(tmp_path / "days.csv", days), tmp_path / "out.csv", *options)
    again = found.reshape(8, -1, 24).mean((0, 2))
    assert np.abs(again - days.to_numpy()).mean() < 0.1 * days.mean()


def test_sums_of_days(tmp_path, truth):
    """A sum is 24 times what each hour says of the level; with the sums as level hours came out 24 times too small."""
    days = truth.resample("D").sum()
    options = ["--operator", "average-pooling", "--operator-option", "factor=24", "--operator-option", "total=true"]
    found = restored(written(tmp_path / "sums.csv", days), tmp_path / "out.csv", *options, "--noise", "500")
    again = found.reshape(8, -1, 24).sum(2).mean(0)
    assert np.abs(again - days.to_numpy()).mean() < 0.1 * days.mean()
    assert found.std() > 0.2 * truth.std()


def test_numbers_are_in_the_units_of_the_field_as_files_are(tmp_path, truth):
    """Numbers had no level, so that their units were those of states; a missing day is told by its mean alone."""
    pipeline = load(RECIPE)
    hidden = (np.arange(len(truth)) // 8) % 2 == 1
    gaps = truth.mask(hidden)
    options = {"noise": 50.0, "members": 2, "nfe": 3}
    (found,) = pipeline.restore(gaps.to_numpy()[None, None], **options)
    (other,) = pipeline.restore(written(tmp_path / "gaps.csv", gaps), **options)
    assert np.allclose(found[0], other[0])
    assert 0.3 < found[0].mean() / truth.mean() < 3
    level = pipeline.domain.measured_condition(torch.from_numpy(gaps.to_numpy())[None, None])["observed"]
    assert float(level[0, 1].sum()) == (~hidden).sum()


def test_noise_in_other_units_is_told(truth):
    with pytest.warns(UserWarning, match=r"noise is 1e\+09, which is .* times 20 deviations of the data"):
        load(RECIPE).restore(truth.to_numpy()[None, None], noise=1e9, nfe=2)


def test_windows_that_were_written_are_read(tmp_path, truth):
    pipeline = load(RECIPE)
    pipeline.domain.write([truth.to_numpy()], tmp_path / "windows.csv")
    text = (tmp_path / "windows.csv").read_text().splitlines()
    text[3] = text[3].rpartition(",")[0] + ","
    (tmp_path / "windows.csv").write_text("\n".join(text) + "\n")
    found = pipeline.domain.read_measurement(tmp_path / "windows.csv", (1, 192))
    assert int(found.values.isnan().sum()) == 1


def test_files_that_are_refused(tmp_path, truth, capsys):
    short = written(tmp_path / "short.csv", truth.iloc[:100])
    whole = written(tmp_path / "whole.csv", truth)
    for arguments, sentence in (
        (["--measurement", short], "has 100 steps, but 192 are measured"),
        (["--measurement", whole, "--mask", short], "series tell gaps by empty cells"),
        (["--measurement", whole], "knows every entry and noise is 0"),
    ):
        out = tmp_path / "out.csv"
        assert run(["restore", RECIPE, *map(str, arguments), "--nfe", "2", "--out", str(out)]) == 2
        assert sentence in capsys.readouterr().err
        assert not out.exists()
