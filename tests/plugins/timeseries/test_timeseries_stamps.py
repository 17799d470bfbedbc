"""Frequencies and time stamps: no value vanishes, and what has two readings is refused with the fix."""

from __future__ import annotations

import datetime
import zoneinfo

import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.common import ListDataset
from gluonts.dataset.pandas import PandasDataset

from anydiff.errors import AnydiffError, FileFormatError
from anydiff_timeseries.data import FrameSeries, part
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.frequency import frequency, infer
from anydiff_timeseries.origins import Origin
from anydiff_timeseries.series import Series, as_series, distinct, from_entry
from anydiff_timeseries.stamps import parse_stamps
from anydiff_timeseries.windows import WindowDataset


def counted(index) -> pd.Series:
    return pd.Series(np.arange(len(index)) + 1.0, index=index, name="load")


# Frequencies ----------------------------------------------------------------------------------------------------------

TWO_HOURS = pd.date_range("2020-01-01", periods=40, freq="2h")


@pytest.mark.parametrize(
    ("index", "freq", "says"),
    [
        (TWO_HOURS[:5].append(TWO_HOURS[5:] + pd.Timedelta("1h")), "2h", "mostly 2 h apart: 35 of 40 values"),
        (pd.date_range("2020", periods=400, freq="h"), "6h", "mostly 1 h apart: 333 of 400 values"),
        (TWO_HOURS, "h", "39 values would be missing between the 40 .*use freq '2h'.*asfreq"),
        (pd.date_range("2020", periods=90, freq="D"), "ME", "87 of 90 values would share a period"),
        (pd.date_range("2020", periods=30, freq="ME"), "D", "mostly 31 D apart.*use freq 'ME'"),
        (pd.date_range("2020", periods=30, freq="QE"), "QE-NOV", "irregular: 1[0-9] of its 30"),
        (pd.date_range("2020", periods=30, freq="BME"), "ME", "irregular.*to_period"),
        (pd.date_range("2020", periods=60, freq="B"), "D", "none of its 60 time stamps is at a weekend; use freq 'B'"),
        (pd.date_range("2020", periods=60, freq="D"), "B", "17 of 60 time stamps at a weekend"),
        (pd.period_range("2020", periods=50, freq="h"), "6h", "frequency 'h', but '6h'"),
        (pd.period_range("2020", periods=5, freq="h")[::-1], "h", "not in order"),
        (pd.period_range("2020", periods=5, freq="h")[[0, 1, 1, 2]], "h", "twice"),
        (pd.DatetimeIndex(["1700-01-01", *pd.date_range("2020", periods=3, freq="s")]), "s", "look for a wrong stamp"),
        (pd.Index([1577836800 + 3600 * hour for hour in range(30)]), "h", "numbers.*unit='s'"),
        (pd.Index(["2020-01-01", "2020-01-02"]), "D", "time stamps.*format="),
    ],
)
def test_another_frequency_is_refused_with_its_numbers(index, freq, says):
    with pytest.raises(AnydiffError, match=says) as error:
        as_series(counted(index), freq)
    assert "'load'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stamps", "freq", "period"),
    [
        ("ME", "ME", "M"),
        ("MS", "ME", "M"),
        ("ME", "MS", "M"),
        ("ME", "M", "M"),
        ("2ME", "2ME", "2M"),
        ("QE", "QE", "Q-DEC"),
        ("QS", "QE", "Q-DEC"),
        ("QE-NOV", "QE-NOV", "Q-NOV"),
        ("QS-FEB", "QS-FEB", "Q-JAN"),
        ("YE", "YE", "Y-DEC"),
        ("YS-JUL", "YE-JUN", "Y-JUN"),
        ("W-MON", "W-MON", "W-MON"),
        ("B", "B", "B"),
        ("D", "D", "D"),
        ("60min", "h", "h"),
        ("15min", "15min", "15min"),
    ],
)
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_every_value_has_its_period_and_keeps_its_stamp(stamps, freq, period, zone):
    index = pd.date_range("2019-07-01", periods=30, freq=stamps, tz=zone)
    (one,) = as_series(counted(index), freq)
    assert one.start.freqstr == period
    assert one.values.tolist() == list(np.arange(30) + 1.0)
    assert one.start.start_time <= index[0].tz_localize(None) <= one.start.end_time
    again = Origin.of(one, 0).stamps(frequency(freq), 30)
    assert again.equals(index)
    assert again.tz == index.tz


def test_periods_of_the_end_are_those_of_pandas_and_gluonts():
    index = pd.date_range("2020-01-31", periods=24, freq="ME")
    (one,) = as_series(counted(index), "ME")
    assert list(one.to_pandas().index) == list(index.to_period("M"))
    data = ListDataset([{"start": "2020-01-31", "target": np.arange(24) + 1.0}], freq="ME")
    (same,) = as_series(data, "ME")
    assert (same.start, same.values.tolist()) == (one.start, one.values.tolist())
    frame = PandasDataset(counted(index.to_period("M")).to_frame(), target="load")
    assert as_series(frame, "MS")[0].start == one.start
    # Months of equal length do not make the last day the 31st.
    (short,) = as_series(counted(pd.DatetimeIndex(["2020-07-31", "2020-08-31"])), "ME")
    assert str(Origin.of(short, 0).stamps(frequency("ME"), 3)[-1].date()) == "2020-09-30"


def test_forecasts_of_months_have_stamps_of_month_ends():
    domain = TimeSeries(12, 3, "ME", 12)
    (one,) = as_series(counted(pd.date_range("2020-01-31", periods=20, freq="ME")), "ME")
    data = FrameSeries(one.to_pandas(), domain)
    windows = domain.labelled(domain.decode(*data.batch([0])), [Origin.of(one, 0)], [0])
    assert windows[0].name == "load"
    assert [str(stamp.date()) for stamp in windows[0].index[-3:]] == ["2021-01-31", "2021-02-28", "2021-03-31"]
    np.testing.assert_allclose(windows[0], np.arange(15) + 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("index", "alias"),
    [
        *((pd.date_range("2019-07-01", periods=30, freq=one), one) for one in ("h", "15min", "D", "B", "W-MON")),
        (pd.date_range("2019-07-01", periods=30, freq="MS"), "ME"),
        (pd.date_range("2019-07-01", periods=30, freq="QS-FEB"), "QE-OCT"),
        (pd.date_range("2019-07-01", periods=30, freq="YE-JUN"), "YE-JUN"),
        (TWO_HOURS.delete([3, 4, 17]), "2h"),
    ],
)
def test_the_frequency_of_stamps(index, alias):
    found = infer(index, "load")
    assert found.alias == alias
    (one,) = as_series(counted(index), None)
    assert np.nansum(one.values) == counted(index).sum()


def test_stamps_that_tell_no_frequency():
    for index, says in ((TWO_HOURS[:2], "too few"), (pd.date_range("2020", periods=9, freq="2ME"), "no frequency")):
        with pytest.raises(AnydiffError, match=says):
            infer(index, "load")
    for text in ("fortnight", 3, None, "-1h", "SME", "bh"):
        with pytest.raises(AnydiffError, match="freq is"):
            frequency(text)


@pytest.mark.parametrize("zone", [datetime.UTC, zoneinfo.ZoneInfo("UTC"), "Etc/UTC", "+00:00"])
def test_utc_has_no_clock_changes(zone):
    index = pd.date_range("2020-03-28", periods=48, freq="h", tz=zone)
    (one,) = as_series(counted(index), "h")
    assert (str(one.start), len(one)) == ("2020-03-28 00:00", 48)


def test_the_fix_for_a_zone_works():
    hours = counted(pd.date_range("2020-03-28", periods=48, freq="h", tz="Europe/Berlin"))
    days = counted(pd.date_range("2020-03-28", periods=48, freq="D", tz="Europe/Berlin"))
    with pytest.raises(AnydiffError, match=r"tz_convert\('UTC'\)"):
        as_series(hours, "h")
    with pytest.raises(AnydiffError, match=r"tz_localize\(None\)"):
        as_series(days, "D")
    assert len(as_series(hours.tz_convert("UTC"), "h")[0]) == 48
    assert len(as_series(days.tz_localize(None), "D")[0]) == 48


def test_a_boundary_counts_the_steps_of_the_series():
    (one,) = as_series(counted(TWO_HOURS), "2h")
    train, test = (part(one, split, "2020-01-02 00:00", 4) for split in ("train", "test"))
    assert len(train) == 12
    assert test.values[0] == 9.0
    with pytest.raises(FileFormatError, match="1 February or 2 January"):
        part(one, "train", "01/02/2020", 4)


def test_windows_of_another_frequency_are_refused():
    domain = TimeSeries(6, 2, "h", 6)
    with pytest.raises(AnydiffError, match="'2h'"):
        FrameSeries(counted(TWO_HOURS), domain)
    with pytest.raises(AnydiffError, match="'2h', but the domain 'h'"):
        WindowDataset("x", as_series(counted(TWO_HOURS), "2h"), "train", domain)


def test_domains_of_equal_shape_differ_in_their_codec():
    base = TimeSeries(20, 4, "h", 4).codec
    for other in (
        TimeSeries(18, 6, "h", 4),
        TimeSeries(20, 4, "D", 4),
        TimeSeries(20, 4, "h", 5),
        TimeSeries(20, 4, "h", 4, "MW"),
    ):
        assert other.spec.shape == (1, 24)
        assert other.codec != base
    assert TimeSeries(20, 4, "60min", 4).codec == base
    assert TimeSeries(20, 4, "ME", 4).codec == TimeSeries(20, 4, "MS", 4).codec
    assert TimeSeries(20, 4, "QE-MAR", 4).codec == TimeSeries(20, 4, "QS", 4).codec


# Text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "options", "first"),
    [
        (["2020-01-31 10:00", "2020-02-01 00:00:00.5"], {}, "2020-01-31 10:00"),
        (["2020-01"], {}, "2020-01-01"),
        (["2020Q2", "2020-Q3"], {}, "2020-04-01"),
        (["01/02/2020", "13/02/2020"], {}, "2020-02-01"),
        (["01.02.2020 9:05"], {"day_first": True}, "2020-02-01 09:05"),
        (["01/02/2020"], {"day_first": False}, "2020-01-02"),
        (["05/05/2020"], {}, "2020-05-05"),
        (["1577836800"], {"date_format": "s"}, "2020-01-01"),
        (["1577836800000"], {"date_format": "ms"}, "2020-01-01"),
        (["18262"], {"date_format": "D"}, "2020-01-01"),
        (["20200102"], {"date_format": "%Y%m%d"}, "2020-01-02"),
        (["2 Jan 20"], {"date_format": "%d %b %y"}, "2020-01-02"),
        (["2020-01-01T00:00:00+01:00", "2020-01-01T00:00:00+02:00"], {"zone": "UTC"}, "2019-12-31 23:00+00:00"),
        (["2020-01-01T00:00:00+01:00"], {"zone": "drop"}, "2020-01-01"),
        (["2020-01-01T00:00:00Z"], {}, "2020-01-01 00:00+00:00"),
    ],
)
def test_stamps_of_one_reading(texts, options, first):
    assert parse_stamps(texts, "here", **options)[0] == pd.Timestamp(first)


@pytest.mark.parametrize(
    ("texts", "options", "says"),
    [
        (["01/02/2020", "12/11/2020"], {}, "1 February or 2 January; give day_first"),
        (["13/01/2020", "01/13/2020"], {}, "neither day first nor month first"),
        (["13/01/2020"], {"day_first": False}, "not as month first"),
        (["1577836800", "1577840400"], {}, "no unit; give date_format"),
        (["20200101"], {}, "no unit; give date_format"),
        (["2020"], {}, "no unit"),
        (["01/02/20"], {}, "date_format"),
        (["3 May 2020"], {}, "date_format"),
        (["2020-01-01", ""], {}, "no time stamp in row 2"),
        (["2020-13-01"], {}, "cannot be read"),
        (["2020-01-01T00:00:00+01:00"], {}, "zone: UTC to convert them, or zone: drop"),
        (["2020-01-01T00:00:00+01:00", "2020-01-01T00:00:00+02:00"], {}, "zone"),
        (["2020-01-01"], {"date_format": "s"}, "seconds since 1970"),
        (["9" * 30], {"date_format": "s"}, "cannot be read"),
        (["2020-01-01"], {"zone": "Berlin"}, "zone is 'Berlin'"),
    ],
)
def test_stamps_of_two_readings_or_none(texts, options, says):
    with pytest.raises(AnydiffError, match=says) as error:
        parse_stamps(texts, "column 'when'", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("start", [1577836800, 1577836800.0, "1577836800", "01/02/2020", None, pd.NaT])
def test_starts_of_entries_that_have_no_single_reading(start):
    with pytest.raises(AnydiffError, match=r"'load' has the start .*pd.Timestamp"):
        from_entry({"item_id": "load", "start": start, "target": [1.0]}, "h")


# Names ----------------------------------------------------------------------------------------------------------------


def long(index: str = "column") -> pd.DataFrame:
    hours = pd.date_range("2020", periods=6, freq="h")
    rows = [
        pd.DataFrame({"item_id": name, "timestamp": hours, "target": np.arange(6.0) + k}) for k, name in enumerate("ba")
    ]
    frame = pd.concat(rows, ignore_index=True)
    return frame if index == "column" else frame.set_index("timestamp")


@pytest.mark.parametrize("index", ["column", "index"])
def test_frames_in_long_form(index):
    first, second = as_series(long(index), "h")
    assert (first.name, second.name) == ("b", "a")
    assert second.values.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    mixed = long(index).sample(frac=1, random_state=0).sort_values("timestamp")
    assert [one.name for one in as_series(mixed, "h")] == sorted(["a", "b"], key=list(mixed["item_id"]).index)


def test_frames_that_do_not_tell_their_series():
    frame = long()
    with pytest.raises(AnydiffError, match="which one holds the values"):
        as_series(frame.rename(columns={"target": "x"}).assign(y=1.0), "h")
    with pytest.raises(AnydiffError, match="2 rows without item_id"):
        as_series(frame.assign(item_id=[None, None, *frame["item_id"][2:]]), "h")
    with pytest.raises(AnydiffError, match=r"6 doubled time stamps.*item_id"):
        as_series(frame.set_index("timestamp")["target"], "h")


def test_series_of_one_name_are_refused_where_a_name_is_a_key():
    hours = pd.date_range("2020", periods=3, freq="h")
    twins = pd.DataFrame([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], index=hours, columns=["a", "a"])
    found = as_series(twins, "h")
    assert [one.values.tolist() for one in found] == [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]
    with pytest.raises(AnydiffError, match=r"2 series are named 'a'.*predict"):
        distinct(found)
    # A name that is a position, and one that looks like it.
    entries = [{"start": "2020-01-01", "target": [1.0], "item_id": 1}, {"start": "2020-01-01", "target": [1.0]}]
    with pytest.raises(AnydiffError, match="named '1'"):
        distinct(as_series(entries, "h"))


@pytest.mark.parametrize("bad", [1 + 2j, "4", datetime.date(2020, 1, 1), np.datetime64("2020-01-01"), 10**400])
def test_values_that_are_no_numbers(bad):
    hours = pd.date_range("2020", periods=3, freq="h")
    with pytest.raises(AnydiffError, match="no number"):
        as_series(pd.Series([1.0, bad, 2.0], index=hours, dtype=object, name="load"), "h")


def test_missing_values_of_every_kind():
    hours = pd.date_range("2020", periods=5, freq="h")
    (one,) = as_series(pd.Series([1.0, None, pd.NA, np.nan, 2], index=hours, dtype=object), "h")
    assert np.isnan(one.values).tolist() == [False, True, True, True, False]
    (one,) = as_series([{"start": "2020-01-01", "target": [1.0, "NaN", None]}], "h")
    assert np.isnan(one.values).tolist() == [False, True, True]
    assert isinstance(one, Series)


def test_windows_keep_their_steps():
    domain = TimeSeries(4, 2, "h", 4)
    hours = pd.date_range("2020", periods=8, freq="h")
    assert domain.encode([counted(hours[:6])]).shape == (1, 1, 6)
    for index, says in (
        (hours[[0, 1, 2, 3, 4, 6]], "window 0 has gaps"),
        (TWO_HOURS[:6], "mostly 2 h apart"),
        (pd.period_range("2020", periods=6, freq="D"), "frequency 'D'"),
        (hours[5::-1], "not in order"),
    ):
        with pytest.raises(AnydiffError, match=says):
            domain.encode([counted(index)])
    for bad in (np.ones(6) + 1j, hours[:6].to_numpy(), ["1"] * 6):
        with pytest.raises(AnydiffError, match="no numbers"):
            domain.encode([bad])


def test_what_a_data_set_raises_is_one_sentence():
    def broken():
        yield {"start": "2020-01-01", "target": [1.0]}
        raise RuntimeError("the disk\nis gone")

    with pytest.raises(AnydiffError, match=r"entry 1 of the data cannot be read .*the disk is gone"):
        as_series(broken(), "h")
