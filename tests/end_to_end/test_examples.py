"""The example plugins: short, correct by the kit, and doing what they say, in every domain at hand."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.pipeline import Pipeline, load, train
from anydiff.plugins import forget, loaded, use_folder
from anydiff.recipes import load_recipe
from anydiff.registry import registry
from anydiff.testing import check_plugin

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
FAST = ["training.steps=4", "training.batch_size=16", "training.log_every=1"]


@pytest.fixture
def only(monkeypatch, tmp_path_factory):
    """Load these examples alone, as plugins that were tried before: one trial of all of them is a test below."""
    monkeypatch.setattr("anydiff.plugins.state.tried", lambda name, version, fingerprint: True)

    def load(*names):
        monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        monkeypatch.setenv("ANYDIFF_PLUGINS", ",".join(names))
        monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
        use_folder(EXAMPLES)
        forget()

    yield load
    monkeypatch.undo()
    forget()


def test_there_is_one_of_each_kind():
    assert {
        "two_moons",
        "kutta_solver",
        "langevin_sampler",
        "guidance_with_memory",
        "gan_tuned_denoiser",
        "spread_metric",
        "own_points",
        "watermark",
        "tensorboard_log",
    } <= set(NAMES)


def test_every_example_passes_the_trial_of_a_new_plugin(monkeypatch, tmp_path):
    """In a fresh state folder, where a process of its own loads them first."""
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path))
    monkeypatch.setenv("ANYDIFF_PLUGINS", ",".join(NAMES))
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
    use_folder(EXAMPLES)
    forget()
    try:
        found = {plugin.name: (plugin.status, plugin.problem) for plugin in loaded().plugins}
        assert {name: found[name] for name in NAMES} == dict.fromkeys(NAMES, ("loaded", ""))
        assert {path.stem for path in (tmp_path / "plugins" / "last").iterdir()} >= set(NAMES)
    finally:
        monkeypatch.undo()
        forget()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_passes_the_kit(name, only):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= (40 if name.endswith("_solver") else 60)
    domain = name.partition("_")[0]
    # pose_own_video is about the domain of the plugin pose.
    only(name, "two_moons", *([domain] if importlib.util.find_spec(f"anydiff_{domain}") else []))
    report = check_plugin(name)
    assert report.ok, report.failed


@pytest.mark.parametrize("recipe", ["two_moons/small", "images/fashion"])
def test_the_solver_runs_in_every_domain(recipe, only):
    only("two_moons", "kutta_solver", "images")
    changes = ["network.options.channels=8"] if recipe.startswith("images") else []
    pipeline = Pipeline.untrained(load_recipe(recipe, changes))
    plan = pipeline.plan(6, "kutta_solver")
    assert plan.nfe == 6
    assert pipeline.sample_set(2, solver=plan).states.isfinite().all()


def test_the_memory_of_a_guidance_is_of_its_chunk(only):
    only("two_moons", "images", "guidance_with_memory")
    pipeline = load("images/fashion")
    options = {"nfe": 5, "guidance": registry().build("guidance", "guidance_with_memory"), "seed": 1}
    labels = torch.tensor([7, 2, 9])
    whole = pipeline.sample_set(3, condition={"label": labels}, **options).states
    parts = pipeline.sample_set(3, condition={"label": labels}, batch_size=2, **options).states
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(pipeline.sample_set(3, condition={"label": labels}, **options).states, whole)
    forgetful = registry().build("guidance", "guidance_with_memory", momentum=0.0)
    other = pipeline.sample_set(3, condition={"label": labels}, **{**options, "guidance": forgetful}).states
    assert (other - whole).abs().max() > 0.01


def test_own_arrays_train_and_are_judged_by_an_own_metric(only, tmp_path):
    only("two_moons", "own_points", "spread_metric")
    recipe = load_recipe("own_points/small", [*FAST, "metrics=[spread_metric]"])
    scores = train(recipe, tmp_path / "run").evaluate(20, nfe=4)
    assert scores["spread_metric"].value > 0


def test_the_discriminator_tunes_a_recipe_and_resumes(only, tmp_path):
    only("two_moons", "gan_tuned_denoiser")
    tuned = load_recipe("two_moons/small", [*FAST, "method={name: gan_tuned_denoiser, options: {width: 8}}"])
    plain = load_recipe("two_moons/small", FAST)
    assert tuned.hash != plain.hash
    assert '"method"' not in plain.canonical(), "a recipe that chooses no method keeps its name"
    trained = train(tuned, tmp_path / "run")
    assert trained.sample_set(2, nfe=2).states.isfinite().all()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert set(state["modules"]) == set(state["optimisers"]) == {"network", "discriminator"}
    with pytest.raises(AnydiffError, match=r"method is .*, but the run in .* was begun with"):
        train(plain, tmp_path / "run", resume=True)


def test_the_watermark_is_in_marked_samples_and_in_no_others(only):
    only("two_moons", "images")
    recipe = load_recipe("images/fashion", ["network.options.channels=8"])
    plain = Pipeline.untrained(recipe).sample_set(64, nfe=2).states
    only("two_moons", "images", "watermark")
    marked = Pipeline.untrained(recipe).sample_set(64, nfe=2).states
    watermark = sys.modules["watermark"]
    found, chance = watermark.strength_in(marked), watermark.strength_in(plain)
    assert found - chance == pytest.approx(1.0, abs=0.05)
    assert float((marked - plain).abs().max()) < 0.05 * float(plain.std())


def test_the_logger_writes_every_value(only, tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append(("open", folder, purge_step))

        def add_text(self, name, text, step):
            written.append((name, text, step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            written.append(("flush",))

    # The real package where it is installed is exercised by hand; what is called, and with what, is checked here.
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    only("two_moons", "tensorboard_log")
    train(load_recipe("two_moons/small", FAST), tmp_path / "run")
    assert written[0] == ("open", str(tmp_path / "run" / "tensorboard"), 0)
    losses = [entry for entry in written if entry[0] == "loss"]
    assert [step for _, _, step in losses] == [1, 2, 3, 4]
    assert ("flush",) in written


def test_without_tensorboard_the_logger_stands_aside(only, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    only("two_moons", "tensorboard_log")
    monkeypatch.setattr(sys.modules.get("tensorboard_log") or types.SimpleNamespace(_writer=None), "_writer", None)
    pipeline = train(load_recipe("two_moons/small", FAST), tmp_path / "run")
    assert "pip install tensorboard" in capsys.readouterr().err
    assert torch.isfinite(pipeline.sample_set(2, nfe=2).states).all()


def test_own_series_train_and_forecast(only, tmp_path):
    only("timeseries_tide", "timeseries")
    from anydiff_timeseries.predictor import TSDiffPredictor

    pipeline = train(load_recipe("timeseries_tide/small", FAST), tmp_path / "run")
    series = sys.modules["timeseries_tide"].sea_level()
    frame = TSDiffPredictor(pipeline, nfe=2, num_samples=5).forecast(series)["sea level"]
    assert frame.shape == (12, 5)
    assert frame.notna().all(axis=None)


def test_era5_goes_to_the_cubed_sphere_and_back(only, tmp_path):
    only("weather_cubed_sphere", "weather")
    pipeline = train(load_recipe("weather_cubed_sphere/small", FAST), tmp_path / "run")
    table = sys.modules["weather_cubed_sphere"].table(pipeline, 4)
    assert table["t850"].dims == ("ensemble", "score")
    assert table.sel(score="crps").to_dataarray().notnull().all()
    assert float(table["t850"].sel(ensemble="others", score="crps")) < float(
        table["t850"].sel(ensemble="seeds", score="crps")
    )
