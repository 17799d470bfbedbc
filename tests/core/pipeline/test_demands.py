"""What a pipeline refuses to draw, and options that would have been dropped."""

from __future__ import annotations

import json
import math

import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import Pipeline
from anydiff.registry import registry
from anydiff.samplers import AdaptiveDPMSolver
from anydiff.solvers.ddim import DDIM
from anydiff.states import Conditioning

NEVER_HIDDEN = ["training.condition_dropout=0", "sampling.nfe=2"]


@pytest.fixture
def demanding(recipe):
    """A pipeline whose network was never trained without its label."""
    return Pipeline.untrained(recipe.with_changes(NEVER_HIDDEN))


def test_a_condition_that_was_never_hidden_is_demanded(demanding):
    says = r"never trained without the condition 'label', .* give --condition label=VALUE, or --cases N"
    with pytest.raises(AnydiffError, match=says):
        demanding.sample(2)
    with pytest.raises(AnydiffError, match=says):
        demanding.ensemble_set(2, {}, cases=2)
    labels = torch.tensor([0, 1])
    with pytest.raises(AnydiffError, match=says):  # declared absent is absent
        demanding.sample(2, condition=Conditioning({"label": labels}, {"label": torch.tensor([True, False])}))
    with pytest.raises(AnydiffError, match=says):
        demanding.encode(demanding.sample(2, condition={"label": labels}))
    assert len(demanding.sample(2, condition={"label": labels})) == 2
    assert len(demanding.like(demanding.reference(3), 4)) == 4


def test_guidance_away_from_what_was_never_trained_is_refused(demanding):
    asked = {"label": torch.tensor([0, 1])}
    with pytest.raises(AnydiffError, match="classifier-free guidance has nothing to lead away from"):
        demanding.sample(2, condition=asked, guidance=2.0)
    assert len(demanding.sample(2, condition=asked, guidance=1.0)) == 2


def test_a_network_that_does_not_read_a_condition_does_without_it(demanding):
    demanding.denoiser.network.reads_conditions = ()
    assert len(demanding.sample(2)) == 2


def test_a_recipe_that_hid_its_conditions_does_without_them(recipe):
    assert recipe.training.condition_dropout > 0
    assert len(Pipeline.untrained(recipe).sample(2, nfe=2)) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nfe": 3}, "nfe is 3, but solver is a Plan"),
        ({"grid": "karras"}, "grid is 'karras', but solver is a Plan"),
        ({"end": "stop"}, "end is 'stop', but solver is a Plan"),
        ({"eta": 1.0}, "eta is 1.0, but solver is a Plan"),
    ],
)
def test_options_beside_a_plan_are_refused(recipe, options, says):
    pipeline = Pipeline.untrained(recipe)
    with pytest.raises(AnydiffError, match=says):
        pipeline.sample(2, solver=pipeline.plan(2), **options)


def test_options_of_a_solver_that_was_not_named_are_refused(recipe):
    pipeline = Pipeline.untrained(recipe)
    with pytest.raises(AnydiffError, match=r"stages is 2, but belongs to a solver; name the solver too"):
        pipeline.sample(2, nfe=2, stages=2)
    with pytest.raises(AnydiffError, match=r"eta is 1\.0, but solver is a DDIM, which has its own"):
        pipeline.sample(2, nfe=2, solver=DDIM(), eta=1.0)


@pytest.mark.parametrize("name", ["adaptive-dpm-solver", "adaptive-ode"])
def test_adaptive_solvers_sample_by_name_and_as_objects(recipe, name):
    if name == "adaptive-ode":
        pytest.importorskip("torchdiffeq")
    pipeline = Pipeline.untrained(recipe)
    loose = {"rtol": 0.05, "atol": 0.05}
    asked = {"label": torch.tensor([1])}
    named = pipeline.sample_set(2, solver=name, condition=asked, cases=1, batch_size=1, **loose).states
    made = pipeline.sample_set(
        [1, 0], solver=registry().build("samplers", name, **loose), condition=asked, cases=1, batch_size=1
    ).states
    assert named.dtype == torch.float32
    assert torch.equal(named, made.flip(0))
    # Near the limit of many steps it draws what any accurate plan draws from the same noise.
    fine = pipeline.sample_set(2, solver=name, condition=asked, cases=1, rtol=1e-4, atol=1e-4).states
    plan = pipeline.sample_set(2, solver="dpm-solver++-3m", nfe=60, guidance=1.0, condition=asked, cases=1).states
    assert float((fine - plan).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nfe": 5}, "nfe is 5, but the sampler 'adaptive-dpm-solver' chooses its own steps"),
        ({"grid": "karras"}, "grid is 'karras', but the sampler 'adaptive-dpm-solver' chooses"),
        ({"rtoll": 1.0}, "unknown option of sampler 'adaptive-dpm-solver': 'rtoll'; did you mean 'rtol'"),
    ],
)
def test_what_adaptive_solvers_do_not_take_is_refused(recipe, options, says):
    with pytest.raises(AnydiffError, match=says):
        Pipeline.untrained(recipe).sample(2, solver="adaptive-dpm-solver", **options)


def test_an_adaptive_solver_has_no_plan(recipe):
    for solver in ("adaptive-ode", AdaptiveDPMSolver()):
        with pytest.raises(AnydiffError, match="chooses its steps while it solves, so there is no plan of it"):
            Pipeline.untrained(recipe).plan(solver=solver)
    with pytest.raises(UnknownNameError, match="option of sampler 'adaptive-ode': 'order'"):
        Pipeline.untrained(recipe).sample(1, solver="adaptive-ode", order=2)


def test_a_recipe_without_metrics_cannot_be_evaluated(recipe):
    pipeline = Pipeline.untrained(recipe.with_changes(["metrics=[]", "sampling.nfe=2"]))
    with pytest.raises(AnydiffError, match=r"its recipe names no metrics; .* --set 'metrics=\[NAME\]'"):
        pipeline.evaluate(4)


def test_numbers_without_end_are_null_in_json(capsys):
    from anydiff.cli.output import print_json

    print_json({"range": [0.0, math.inf], "value": math.nan, "deep": [{"x": -math.inf}], "kept": 1.5})
    text = capsys.readouterr().out
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"range": [0.0, None], "value": None, "deep": [{"x": None}], "kept": 1.5}


def test_the_command_of_a_run_keeps_its_changes(recipe, run, monkeypatch, tmp_path):
    from anydiff.cli.main import run as command

    file = tmp_path / "mine.yaml"
    file.write_text(recipe.to_yaml())
    monkeypatch.chdir(tmp_path)
    changes = ["--set", "training.steps=1", "--set", "help=two words"]
    assert command(["train", "mine.yaml", "--out", "made", *changes]) == 0
    written = "anydiff train mine.yaml --set training.steps=1 --set 'help=two words'"
    assert f"by `{written}`" in (tmp_path / "made" / "card.md").read_text()


def test_powers_of_ten_are_numbers_in_options():
    from anydiff.cli.common import solver_options

    assert solver_options(["rtol=1e-3", "atol=2.5E+2", "name=1e3x", "path=a-1e3"]) == {
        "rtol": 1e-3, "atol": 250.0, "name": "1e3x", "path": "a-1e3",
    }  # fmt: skip


def test_an_option_of_the_recipes_own_solver_needs_no_name(recipe):
    """Only where it can mean nothing else."""
    pipeline = Pipeline.untrained(recipe.with_changes(["sampling.solver.name=dpm-solver++-2m"]))
    recipe = pipeline.recipe
    named = {"solver": recipe.sampling.solver.name, **recipe.sampling.solver.options}
    assert pipeline.plan(4, eta=1.0) == pipeline.plan(4, **{**named, "eta": 1.0, "grid": recipe.sampling.grid})
    assert pipeline.plan(4, eta=1.0).draws > pipeline.plan(4).draws
