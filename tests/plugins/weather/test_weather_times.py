"""When a field is valid, in every encoding that files have, and what follows: right days, right pairs, right scores."""

import cftime
import numpy as np
import pytest
import xarray
from weather_worlds import GRID, climatology, days, perfect, saved, trained, truth

from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.pipeline import load
from anydiff_weather.checks import standard_axes
from anydiff_weather.climatology import Climatology
from anydiff_weather.domain import Weather
from anydiff_weather.forecast_files import ForecastFiles
from anydiff_weather.forecasts import forecast_conditions, forecast_days
from anydiff_weather.metrics import verify
from anydiff_weather.seeds import emulate
from anydiff_weather.times import stamp, valid_times


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Weights on own files; the climatology stands beside them."""
    return trained(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def past():
    return climatology()


def scores(table):
    return {str(name): float(table["t"].sel(score=name)) for name in table["score"].to_numpy()}


# Encodings ------------------------------------------------------------------------------------------------------------


def numbered(data, value, units, dtype="int64"):
    return data.assign_coords(step=((), np.array(value, dtype), {"units": units}))


def on_axes(data, base, step, value=72, units="hours"):
    return data.drop_vars("step").rename(time=base).assign_coords({step: ((), value, {"units": units})})


ENCODINGS = {
    "timedelta64": lambda d: d,
    "timedelta64 in days": lambda d: d.assign_coords(step=d["step"].astype("timedelta64[s]")),
    "integer hours": lambda d: numbered(d, 72, "hours"),
    "integer days": lambda d: numbered(d, 3, "days", "int32"),
    "float hours": lambda d: numbered(d, 72.0, "h", "float32"),
    "integer nanoseconds": lambda d: numbered(d, 3 * 86400 * 10**9, "nanoseconds"),
    "an axis of one step": lambda d: d.expand_dims("step"),
    "WeatherBench 2": lambda d: d.rename(step="prediction_timedelta", latitude="lat", longitude="lon"),
    "Climate Data Store": lambda d: on_axes(d, "forecast_reference_time", "forecast_period"),
    "Climate Data Store, axes of length one": lambda d: on_axes(
        d, "forecast_reference_time", "forecast_period"
    ).expand_dims("forecast_period"),
    "valid_time alone": lambda d: d.assign_coords(valid_time=d["time"] + d["step"]).drop_vars("step"),
    "both": lambda d: d.assign_coords(valid_time=d["time"] + d["step"]),
    "CF: time is the valid time": lambda d: d.assign_coords(
        forecast_reference_time=("time", d["time"].to_numpy()), time=(d["time"] + d["step"]).to_numpy()
    ).rename(step="forecast_period"),
    "a step for each time": lambda d: d.assign_coords(step=("time", np.repeat(d["step"].to_numpy(), d.sizes["time"]))),
    "cftime": lambda d: d.convert_calendar("standard", use_cftime=True),
    "a variable, not a coordinate": lambda d: numbered(d, 72, "hours").reset_coords("step"),
    "seconds as the resolution": lambda d: d.assign_coords(time=d["time"].astype("datetime64[s]")),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_of_the_step_gives_the_same_days_pairs_and_scores(encoding, past):
    data = ENCODINGS[encoding](perfect(40))
    base, valid = forecast_days(data)
    assert base[:4].tolist() == [60, 67, 74, 81]
    assert valid[:4].tolist() == [63, 70, 77, 84]
    value = scores(verify(data, truth(40, lead=3), past))
    assert value["crps"] == 0
    assert value["acc"] == pytest.approx(1.0)


def test_daily_forecasts_at_three_days_are_valid_three_days_later():
    data = numbered(perfect(4, spacing=3, begin="2003-01-01"), 3, "days")
    assert forecast_days(data)[1].tolist() == [4, 7, 10, 13]


def test_reanalysis_of_the_new_data_store_has_only_valid_times():
    data = standard_axes(truth(4).rename(time="valid_time"))
    assert data["t"].dims[0] == "time"
    assert [stamp(each)[:10] for each in valid_times(data).to_numpy()][:2] == ["2003-03-01", "2003-03-08"]


def test_dates_far_away_keep_their_meaning():
    far = np.array(["3001-01-30"], "datetime64[s]")
    data = perfect(1, members=2).assign_coords(time=far)
    assert forecast_days(data)[1].tolist() == [33]


NOT_TIMES = {
    "units 'months'": (lambda d: numbered(d, 3, "months"), "in the units 'months', so their length is unknown"),
    "no units": (lambda d: numbered(d, 3, ""), "lead times of the forecast are int64 in the units ''"),
    "a missing step": (lambda d: numbered(d, np.nan, "hours", "float64"), "a lead time of the forecast is missing"),
    "NaT as step": (lambda d: d.assign_coords(step=np.timedelta64("NaT", "ns")), "a lead time .* is missing"),
    "text": (lambda d: d.assign_coords(step="3 days"), "not durations"),
    "two steps": (
        lambda d: xarray.concat(
            [d.assign_coords(step=d["step"] * k) for k in (1, 2)], "step", coords="minimal", compat="equals"
        ),
        "has 2 lead times from 72 to 144 hours; select one lead time",
    ),
    "two names": (lambda d: d.assign_coords(forecast_period=d["step"]), "has both 'step' and 'forecast_period'"),
    "two members": (
        lambda d: d.expand_dims(member=[0]),
        "has both 'number' and 'member', which mean the same; drop one",
    ),
    "valid_time that is another": (
        lambda d: d.assign_coords(valid_time=d["time"] + 2 * d["step"]),
        "8 of 8 valid times of the forecast are not base time plus step .*2003-03-07T00:00, but .* 2003-03-04T00:00",
    ),
    "a missing time": (
        lambda d: d.assign_coords(time=np.where(np.arange(8) == 2, np.datetime64("NaT"), d["time"].to_numpy())),
        "1 of the times of the forecast are missing",
    ),
    "a time zone": (
        lambda d: d.assign_coords(
            time=("time", np.array([np.datetime64(t, "us").item().replace(tzinfo=_utc()) for t in d["time"].values]))
        ),
        "have a time zone",
    ),
    "another calendar": (
        lambda d: d.convert_calendar("360_day", align_on="date", use_cftime=True),
        "the calendar of the forecast is '360_day', but that of the climatology is 'standard'",
    ),
}


def _utc():
    import datetime

    return datetime.UTC


@pytest.mark.parametrize("kind", NOT_TIMES)
def test_what_is_no_time_gets_one_sentence(kind, world):
    change, sentence = NOT_TIMES[kind]
    domain = Weather(str(world.parent / "climatology.nc"))
    with pytest.raises(AnydiffError, match=sentence):
        forecast_conditions(domain, change(perfect(8)))


def test_a_climatology_knows_its_calendar_and_the_valid_days_of_forecasts():
    noleap = xarray.date_range("2001-01-01", periods=4 * 365, calendar="noleap", use_cftime=True)
    values = 280 + np.random.default_rng(0).normal(size=(len(noleap), 2, 5))
    past = xarray.Dataset({"t": (("time", *GRID), values, {"units": "K"})}, {"time": noleap, **GRID})
    made = Climatology.fit(past, harmonics=1)
    assert made.calendar == "noleap"
    one = xarray.DataArray(np.array([cftime.DatetimeNoLeap(2001, 3, 1)], object), dims="time")
    assert made.days(one, "x").tolist() == [60]
    with pytest.raises(AnydiffError, match="calendar of x is 'standard', but that of the climatology is 'noleap'"):
        made.days(xarray.DataArray(days(2), dims="time"), "x")
    forecasts = perfect(400, lead=100, spacing=2).isel(number=0, drop=True)
    right = Climatology.fit(forecasts.drop_vars("step").assign_coords(time=days(400, 2) + np.timedelta64(100, "D")))
    np.testing.assert_array_equal(Climatology.fit(forecasts).arrays[0], right.arrays[0])
    with pytest.raises(AnydiffError, match="the axis 'number' of length 3 beside time and grid"):
        Climatology.fit(perfect(400, spacing=2))


# Pairs ----------------------------------------------------------------------------------------------------------------


def test_verify_pairs_by_valid_time_whatever_the_order(past):
    data, shuffled = perfect(40), truth(40, lead=3).isel(time=np.random.default_rng(3).permutation(40))
    assert scores(verify(data, shuffled, past))["crps"] == 0
    # By order all but a few cases would meet another day's truth.
    wrong = shuffled.assign_coords(time=(data["time"] + data["step"]).to_numpy())
    assert scores(verify(data, wrong, past))["crps"] > 1


def test_a_lead_of_120_days_uses_the_climatology_of_the_valid_day(past):
    data = perfect(40, lead=120)
    data["t"] = data["t"] + np.random.default_rng(2).normal(size=data["t"].shape).astype(np.float32)
    data["t"].attrs["units"] = "K"
    right = scores(verify(data, truth(40, lead=120), past))
    valid = data.assign_coords(time=(data["time"] + data["step"]).to_numpy()).drop_vars("step")
    assert right == scores(verify(valid, truth(40, lead=120), past))
    anomaly = truth(40, lead=120)["t"].to_numpy() - past.arrays[0][valid["time"].dt.dayofyear.to_numpy() - 1, 0]
    mean = data["t"].mean("number").to_numpy() - truth(40, lead=120)["t"].to_numpy() + anomaly
    expected = np.mean(
        [(f * o).sum() / np.sqrt((f**2).sum() * (o**2).sum()) for f, o in zip(mean, anomaly, strict=True)]
    )
    assert right["acc"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("forecasts", "observed", "sentence"),
    [
        (slice(0, 40), slice(10, 40), "10 of 40 fields of the ensemble .* the truth lacks .first 2003-03-04T00:00"),
        (slice(0, 30), slice(0, 40), "10 of 40 times of the truth have no field in the ensemble .first 2003-09-30"),
        (slice(0, 2), [0, 1, 1], "several fields for the valid times of 1 of 2 fields .* .first 2003-03-11T00:00"),
    ],
)
def test_what_has_no_partner_is_refused_with_its_number(forecasts, observed, sentence, past):
    with pytest.raises(AnydiffError, match=sentence):
        verify(perfect(40).isel(time=forecasts), truth(40, lead=3).isel(time=observed), past)


def test_base_times_alone_and_other_calendars_are_refused(past):
    alone = perfect(4).drop_vars("step")
    alone["time"].attrs["standard_name"] = "forecast_reference_time"
    with pytest.raises(AnydiffError, match="are base times, and there is neither 'valid_time' nor 'step'"):
        verify(alone, truth(4), past)
    other = truth(4, lead=3).convert_calendar("noleap", use_cftime=True)
    with pytest.raises(AnydiffError, match="calendar of the ensemble is 'standard', but that of the truth is 'noleap'"):
        verify(perfect(4), other, past)


# Faces ----------------------------------------------------------------------------------------------------------------


def evaluated(world, path, capsys):
    import json

    assert run(["evaluate", str(world), "--samples", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("order", ["as it is", "shuffled", "a part", "valid times alone", "stacked samples"])
def test_a_perfect_ensemble_scores_nothing_on_the_command_line(order, world, tmp_path, capsys):
    held_out = perfect(8).isel(time=slice(4, None))
    changed = {
        "as it is": held_out,
        "shuffled": held_out.isel(time=[2, 0, 3, 1]),
        "a part": held_out.isel(time=[3, 1]),
        "valid times alone": held_out.assign_coords(time=(held_out["time"] + held_out["step"]).to_numpy()).drop_vars(
            "step"
        ),
        "stacked samples": held_out.stack(sample=("time", "number"), create_index=False),
    }[order]
    found = evaluated(world, saved(changed, tmp_path / "made.nc"), capsys)
    assert found["weather/crps"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["weather/crps"]["samples"] == 3 * (2 if order == "a part" else 4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d, "12 of 24 fields of the samples have valid times that the held-out data lacks .first 2003-03-04"),
        (lambda d: d.isel(time=slice(4, None)).drop_vars(["time", "step"]), "sample 0 has no time"),
        (
            lambda d: xarray.concat(
                [d.isel(time=[5]), d.isel(time=[5]).assign_coords(time=days(8)[[4]], step=np.timedelta64(10, "D"))],
                "time",
                coords="different",
                compat="equals",
            ),
            "1 of 1 valid times have samples of several base times .* select one lead time",
        ),
    ],
)
def test_samples_of_no_held_out_case_are_refused(change, sentence, world, tmp_path, capsys):
    import re

    path = saved(change(perfect(8)), tmp_path / "made.nc")
    assert run(["evaluate", str(world), "--samples", path]) != 0
    assert re.search(sentence, capsys.readouterr().err)


def test_own_files_are_paired_with_their_truth_whatever_the_order(world, tmp_path):
    files = {"climatology": str(world.parent / "climatology.nc"), "test_share": 0.5, "member_labels": 1}
    order = np.random.default_rng(5).permutation(8)
    forecast = saved(numbered(perfect(8), 72, "hours").isel(time=order), tmp_path / "f.nc")
    observed = saved(truth(8, 3).isel(time=order[::-1]), tmp_path / "t.nc")
    test = ForecastFiles(forecast, truth=observed, split="test", **files)
    states, condition = test.batch(range(4))
    np.testing.assert_array_equal(states, condition.given["members"][:, 0])
    assert str(test.case_labels([0])[0].moment) == "2003-04-01T00:00"
    assert test.dependence == 0, "three days ahead, every seven days"
    daily = saved(perfect(8, lead=3, spacing=1), tmp_path / "daily.nc")
    assert ForecastFiles(daily, split="test", **files).dependence == 2
    twice = saved(perfect(8).isel(time=[0, 1, 2, 3, 4, 5, 6, 6]), tmp_path / "twice.nc")
    with pytest.raises(AnydiffError, match="1 base times of the forecast occur more than once"):
        ForecastFiles(twice, **files)


def test_the_command_line_writes_what_emulate_makes(world, tmp_path, capsys):
    forecast = numbered(perfect(6), 72, "hours").assign_attrs(institution="here")
    forecast["t"].attrs["long_name"] = "temperature"
    path, out = saved(forecast, tmp_path / "forecast.nc"), tmp_path / "made.nc"
    ask = ["sample", str(world), "--condition", f"members={path}"]
    assert run([*ask, "--members", "3", "--out", str(out), "--picture", str(tmp_path / "a.png")]) == 0
    made = xarray.open_dataset(out)
    xarray.testing.assert_identical(made.drop_encoding(), emulate(load(world), forecast, 3).drop_encoding())
    assert made["t"].dims == ("time", "number", "latitude", "longitude")
    assert made.sizes["time"] == 6
    assert made["step"].to_numpy() == np.timedelta64(3, "D")
    assert made["time"].attrs["standard_name"] == "forecast_reference_time"
    np.testing.assert_array_equal(made["valid_time"], days(6) + np.timedelta64(3, "D"))
    assert (made.attrs["institution"], made["t"].attrs["long_name"]) == ("here", "temperature")
    assert made.attrs["Conventions"].startswith("CF")
    assert run([*ask, "--cases", "2", "--members", "3", "--out", str(tmp_path / "two.nc")]) == 0
    xarray.testing.assert_equal(xarray.open_dataset(tmp_path / "two.nc")["time"], made["time"][:2])
    assert run([*ask, "--count", "12", "--out", str(tmp_path / "twelve.nc")]) == 0
    assert dict(xarray.open_dataset(tmp_path / "twelve.nc").sizes)["number"] == 2
    for wrong, sentence in [
        (["--count", "5"], "--count is 5, but there are 6 cases; give --members"),
        (["--members", "2", "--cases", "7"], "--cases is 7, but --condition names 6 cases"),
    ]:
        capsys.readouterr()
        assert run([*ask, *wrong, "--out", str(tmp_path / "no.nc")]) != 0
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "no.nc").exists()


def test_streams_and_held_out_cases_carry_their_times(world, tmp_path, capsys):
    path = saved(perfect(8).isel(time=slice(4, None)), tmp_path / "forecast.nc")
    ask = ["sample", str(world), "--condition", f"members={path}", "--members", "3", "--seed", "1"]
    assert run([*ask, "--out", str(tmp_path / "a.zarr")]) == 0
    assert run([*ask, "--out", str(tmp_path / "a.nc")]) == 0
    assert (
        run(["sample", str(world), "--members", "3", "--cases", "4", "--seed", "1", "--out", str(tmp_path / "b.nc")])
        == 0
    )
    values = [evaluated(world, tmp_path / name, capsys)["weather/crps"]["value"] for name in ("a.zarr", "a.nc", "b.nc")]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert values[1] == pytest.approx(values[2], rel=1e-5)
    again = ["--out", str(tmp_path / "a.zarr"), "--resume"]
    assert run([*ask, *again]) == 0
    later = saved(
        perfect(8).isel(time=slice(4, None)).assign_coords(time=days(4, begin="2004-03-29")), tmp_path / "l.nc"
    )
    ask[3] = f"members={later}"
    assert run([*ask, *again]) != 0
    assert "was begun with" in capsys.readouterr().err


def test_the_simulators_year_has_days_twice_so_cases_are_numbered():
    from anydiff_weather.data import Lorenz96Cases, bundled

    data, test = bundled("lorenz96_test.nc"), Lorenz96Cases("test")
    labels = test.case_labels(range(256))
    order = np.random.default_rng(0).permutation(256)[:30]
    held = data[["truth"]].rename(truth="x").drop_vars("valid_time").isel(time=order)
    places = test.domain.match([held.isel(time=row) for row in range(30)], labels)
    found = test.domain.encode([held.isel(time=row) for row in range(30)])
    np.testing.assert_allclose(found, test.truth[places], atol=1e-5)
    plain = held.drop_vars("case")
    with pytest.raises(AnydiffError, match="number them by a coordinate 'case'"):
        test.domain.match([plain.isel(time=row) for row in range(30)], labels)
