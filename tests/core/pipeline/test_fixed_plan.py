"""Weights that are a denoiser on their own plan alone: what asks for another one is refused by name."""

from __future__ import annotations

import pytest
import torch

from anydiff.advise import advise, gap
from anydiff.cli.main import run as command_line
from anydiff.errors import AnydiffError
from anydiff.pipeline import load
from anydiff.recipes import Recipe, load_recipe
from anydiff.solvers import compile_plan

TIMES = [1.0, 0.6, 0.2, 0.001]


@pytest.fixture
def student(run, tmp_path):
    """The short training's weights, marked as a student's."""
    pipeline = load(run)
    sampling = {"solver": "ddim", "nfe": 3, "grid": TIMES, "fixed": True}
    data = pipeline.recipe.model_dump(mode="json")
    pipeline.recipe = Recipe.parse({**data, "sampling": sampling}, "the test")
    pipeline.save(tmp_path / "student.safetensors")
    return load(tmp_path / "student.safetensors")


def test_a_list_of_times_is_stored_with_the_weights_and_sampled(student):
    assert student.recipe.sampling.grid == tuple(TIMES)
    assert student.plan().nodes == tuple(TIMES)
    assert student.sample_set(4).states.shape == (4, 2)
    again = load_recipe("two_moons/small", ["sampling.solver=ddim", "sampling.nfe=3", f"sampling.grid={TIMES}"])
    assert Recipe.parse(again.model_dump(mode="json"), "again").hash == again.hash


def test_times_that_do_not_fit_the_budget_are_refused(run):
    pipeline = load(run).with_changes(["sampling.solver=ddim", f"sampling.grid={TIMES}", "sampling.nfe=4"])
    with pytest.raises(AnydiffError, match="has 4 nodes, but 4 steps need 5"):
        pipeline.sample(2)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"solver": "heun"}, "solver is 'heun'"),
        ({"solver": "adaptive-ode"}, "solver is 'adaptive-ode'"),
        ({"nfe": 4}, "nfe is 4"),
        ({"grid": "karras"}, "grid is 'karras'"),
        ({"grid": [1.0, 0.5, 0.2, 0.001]}, "grid is"),
        ({"end": "denoise"}, "end is 'denoise'"),
        ({"eta": 1.0}, "eta is 1.0"),
        ({"guidance": 2.0}, "guidance is 2.0"),
        ({"reverse": True}, "reverse is True"),
        ({"path": {"route": "any"}}, "path is"),
    ],
)
def test_another_plan_is_refused_by_name(student, options, name):
    with pytest.raises(AnydiffError, match=name) as error:
        student.sample(2, **options)
    assert "a denoiser on its own plan alone (ddim, 3 calls, [1.0, 0.6, 0.2, 0.001]" in str(error.value)


def test_its_own_plan_may_be_named(student):
    first = student.sample_set(3).states
    for options in ({"solver": "ddim"}, {"nfe": 3}, {"grid": TIMES}, {"end": "clean"}, {"solver": student.plan()}):
        assert torch.equal(student.sample_set(3, **options).states, first)
    with pytest.raises(AnydiffError, match="solver is Plan"):
        student.sample(2, solver=other_plan(student))
    assert student.evaluate(40)


def other_plan(student):
    return compile_plan("ddim", student.denoiser.path, 3)


def test_likelihood_advice_and_changes_are_refused(student):
    objects = student.sample(2)
    for ask in (
        lambda: student.log_likelihood(objects),
        lambda: student.encode(objects),
        lambda: student.optimise(lambda values: values.sum(1), 2, gain=1.0),
        lambda: advise(student),
        lambda: gap(student),
        lambda: student.calibrate("dc", nfe=[4]),
        lambda: student.with_changes(["sampling.nfe=10"]),
        lambda: student.with_changes(["sampling.fixed=false"]),
    ):
        with pytest.raises(AnydiffError, match="a denoiser on its own plan alone"):
            ask()
    assert student.with_changes(["help=mine"]).recipe.help == "mine"


def test_the_command_line_refuses_with_a_sentence_and_writes_nothing(student, tmp_path, capsys):
    out = tmp_path / "points.csv"
    assert command_line(["sample", student.origin, "--count", "4", "--nfe", "7", "--out", str(out)]) == 2
    assert "nfe is 7" in capsys.readouterr().err
    assert not out.exists()
    assert command_line(["sample", student.origin, "--count", "4", "--out", str(out)]) == 0


def test_a_recipe_without_a_fixed_plan_has_the_hash_it_had(recipe):
    assert "fixed" not in recipe.canonical()
    assert '"fixed":true' in recipe.with_changes(["sampling.fixed=true"]).canonical()
