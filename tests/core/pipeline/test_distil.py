"""``anydiff distil``: students that halve in turn, each a run with a plan of its own."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch
from found import EXAMPLES, found

from anydiff.cli.main import run as command_line
from anydiff.errors import AnydiffError
from anydiff.pipeline import Students, distil, load, train
from anydiff.pipeline.distil import checked_calls, student_recipe, teacher_grid
from anydiff.recipes import load_recipe

SHORT = ["training.steps=4", "training.batch_size=32", "training.checkpoint_every=2"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    with found("two_moons", EXAMPLES, tmp_path_factory):
        folder = tmp_path_factory.mktemp("distil") / "base"
        train(load_recipe("two_moons/small", ["training.steps=30", "training.batch_size=64"]), folder)
    return folder


def test_students_halve_in_turn_and_carry_their_plans(base, tmp_path):
    last = distil(base, [8, 4, 2], tmp_path / "fast", Students(changes=SHORT))
    times = load(base).plan(8, "ddim").nodes
    for calls, teacher in ((4, base), (2, tmp_path / "fast" / "4-calls")):
        student = load(tmp_path / "fast" / f"{calls}-calls")
        assert student.plan().nfe == student.recipe.sampling.nfe == calls
        assert student.plan().nodes == times[:: 8 // calls]
        assert student.recipe.start.weights_hash == load(teacher).weights_hash
        assert student.recipe.companions["teacher"].weights_hash == load(teacher).weights_hash
        assert student.sample_set(4).states.isfinite().all()
        with pytest.raises(AnydiffError, match="a denoiser on its own plan alone"):
            student.sample(2, nfe=8)
        with pytest.raises(AnydiffError, match="a denoiser on its own plan alone"):
            student.sample(2, guidance=2.0)
    assert last.recipe.name == "two_moons/small-2-calls"
    assert len(last.recipe.objective.options["grid"]) == 5
    assert last.weights_hash != load(base).weights_hash
    shutil.rmtree(tmp_path / "fast" / "4-calls")
    assert load(tmp_path / "fast" / "2-calls").weights_hash == last.weights_hash


def test_a_student_of_no_learning_is_its_teacher(base, tmp_path):
    student = distil(
        base, [4, 2], tmp_path / "fast", Students(changes=["training.steps=1", "training.learning_rate=1e-30"])
    )
    ours, theirs = student.denoiser.network.state_dict(), load(base).denoiser.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    plan = load(base).plan(2, "ddim", grid=list(student.recipe.sampling.grid))
    same = load(base).sample_set(8, solver=plan, guidance=[]).states
    assert torch.equal(student.sample_set(8).states, same)


def test_a_killed_distillation_goes_on_where_it_was(base, tmp_path):
    whole = distil(base, [4, 2, 1], tmp_path / "whole", Students(changes=SHORT))
    fit_module = sys.modules["anydiff.training.fit"]
    advance, count = fit_module._Training._advance, []

    class Killed(Exception):
        pass

    def advanced(self, stop):
        count.append(1)
        if len(count) == 7:  # in the second student
            raise Killed
        return advance(self, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module._Training, "_advance", advanced)
        with pytest.raises(Killed):
            distil(base, [4, 2, 1], tmp_path / "part", Students(changes=SHORT))
    with pytest.raises(AnydiffError, match="is not empty; choose another folder, or resume"):
        distil(base, [4, 2, 1], tmp_path / "part", Students(changes=SHORT))
    again = distil(base, [4, 2, 1], tmp_path / "part", Students(changes=SHORT), resume=True)
    ours, theirs = again.denoiser.network.state_dict(), whole.denoiser.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_command_line_leaves_runs_and_says_how_they_are_sampled(base, tmp_path, capsys):
    words = ["distil", str(base), "--calls", "4,2", "--out", str(tmp_path / "fast")]
    words += [word for change in SHORT for word in ("--set", change)]
    assert command_line(words) == 0
    assert "anydiff sample" in capsys.readouterr().err
    student = load(tmp_path / "fast" / "2-calls")
    assert student.metadata["command"].startswith(f"anydiff distil {base} --calls 4,2 --set")
    assert "| companion teacher |" in (tmp_path / "fast" / "2-calls" / "card.md").read_text()
    assert command_line(["distil", str(base), "--calls", "4,x", "--out", str(tmp_path / "no")]) == 2
    assert command_line(["distil", str(base), "--calls", "6,4", "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("calls", [[4], [], [8, 3], [2, 4], [3, 1], [4, 2, 0], [True, 1]])
def test_calls_that_do_not_halve_are_refused(calls):
    with pytest.raises(AnydiffError, match="each number must be half of the one before"):
        checked_calls(calls)


def test_a_student_teaches_at_its_own_times_alone(base, tmp_path):
    student = distil(base, [4, 2], tmp_path / "fast", Students(changes=["training.steps=1"]))
    source = str(tmp_path / "fast" / "2-calls")
    with pytest.raises(AnydiffError, match="a student of 2 calls on its own grid"):
        distil(source, [4, 2], tmp_path / "no")
    with pytest.raises(AnydiffError, match="a student of 2 calls on its own grid"):
        distil(source, [2, 1], tmp_path / "no", Students(grid="karras"))
    times = teacher_grid(student, 2, None)
    recipe = student_recipe(student, source, times, True)
    strange = recipe.with_changes([f"objective.options.grid={[times[0], times[1] / 2, times[2]]}"])
    with pytest.raises(
        AnydiffError, match=r"companions.teacher is .*a denoiser on its own plan alone.*but it is asked at"
    ):
        train(strange, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    assert distil(source, [2, 1], tmp_path / "one", Students(changes=["training.steps=1"])).plan().nfe == 1


def test_guidance_is_part_of_the_student_unless_it_is_left_out(base):
    teacher = load(base).with_changes(["sampling.guidance=[{name: classifier-free, options: {scale: 2.0}}]"])
    times = teacher_grid(teacher, 4, "karras")
    guided, plain = (student_recipe(teacher, str(base), times, each) for each in (True, False))
    assert guided.objective.options["guidance"] == [{"name": "classifier-free", "options": {"scale": 2.0}}]
    assert "guidance" not in plain.objective.options
    assert guided.sampling.guidance == plain.sampling.guidance == ()
    with pytest.raises(AnydiffError, match="unknown time grid 'kararas'; did you mean 'karras'"):
        teacher_grid(teacher, 4, "kararas")


def test_a_recipe_that_asks_for_a_teacher_and_names_none_is_refused(base, tmp_path):
    recipe = load_recipe("two_moons/small", ["objective={name: progressive, options: {grid: [1.0, 0.5, 0.001]}}"])
    with pytest.raises(
        AnydiffError, match=r"asks for the companion 'teacher', but the recipe names none; set companions"
    ):
        train(recipe, tmp_path / "no")
    with pytest.raises(AnydiffError, match=r"companions.teacher is 'nowhere', which cannot be loaded"):
        train(recipe.with_changes(["companions.teacher=nowhere"]), tmp_path / "no")
    assert not (tmp_path / "no").exists()
    run = train(recipe.with_changes([f"companions.teacher={base}", "training.steps=1"]), tmp_path / "run")
    assert run.recipe.companions["teacher"].recipe_hash == load(base).recipe.hash
