"""Tasks with a measurement: who is told what, what is judged, and suites that name inverse methods."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError
from anydiff.inverse import Gaussian, Problem
from anydiff.inverse.operators import AveragePooling, Mask
from anydiff.metrics import SampleSet
from anydiff.metrics.restoration import HiddenCRPS, HiddenError
from anydiff.recipes import Part
from anydiff.states import Conditioning
from anydiff.tasks import Task, load_task, measured_problem, with_hidden
from anydiff_benchmarks.engine.generation import Generator
from anydiff_benchmarks.engine.suite import Method, Suite, load_suite
from anydiff_benchmarks.engine.truth import Truth
from anydiff_timeseries.domain import TimeSeries
from anydiff_weather.assimilation import kalman_update


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth(load_task("timeseries/impute"))


@pytest.fixture(scope="module")
def generator(truth: Truth) -> Generator:
    opening = truth.opening(0)
    return Generator(truth.task, "", opening.asked, opening.size, "cpu", 64, truth.measured)


def test_a_model_is_told_the_measurement_and_nothing_else(truth, generator):
    assert not generator.asked.given  # the data's own condition shows a week that is to be restored
    told = generator.told(32, 0)
    hidden = with_hidden(Conditioning(), told.problem, told.problem.cases).truth["hidden"]
    assert hidden.float().mean() == 0.5
    assert not told.problem.measurement[hidden].any()


def test_a_case_has_one_measurement_whoever_asks(truth):
    together = truth.measured(torch.tensor([5, 9]))
    alone = truth.measured(torch.tensor([9]))
    assert torch.equal(together.measurement[1:], alone.measurement)
    assert not torch.equal(together.operator.mask[0], together.operator.mask[1])


def test_the_measurement_is_of_the_held_out_values_with_the_noise_that_is_said(truth):
    rows = torch.arange(16)
    problem = truth.measured(rows)
    values = truth.domain.values(truth.reference.states[rows], truth.reference.condition.rows(rows))[:, None]
    seen = problem.operator.mask
    off = (problem.measurement - values)[seen]
    assert float(off.std()) == pytest.approx(float(problem.noise.std.max()), rel=0.1)


def test_inverse_methods_restore_in_the_benchmark_and_count_their_calls(truth, generator):
    error = {}
    for text in ({"inverse": "ddnm"}, {"solver": "ddim", "guidance": "known"}, {"solver": "ddim"}):
        method = Method.parse(text, "a method")
        samples, cost = generator.samples(method, 6, 16, 0)
        assert cost.calls_per_sample == 6
        judged = truth.judge(samples.states, samples.condition, generator.case_rows(16, 0))
        assert not judged.problems
        error[method.title] = judged.values["restoration/mse-of-mean"]
    assert error["ddnm"] < 0.5 * error["ddim"]
    assert error["ddim (guidance=known)"] < 0.5 * error["ddim"]


def test_samples_are_judged_in_the_units_that_the_measurement_decides(truth, generator):
    rows = generator.case_rows(16, 0)
    told = generator.told(16, 0)
    scale, offset = truth.domain.units(Conditioning(told.decides))
    values = truth.domain.values(truth.reference.states[rows], truth.reference.condition.rows(rows))[:, None]
    exact = told.beside(SampleSet(((values - offset) / scale).float(), Conditioning(), truth.domain))
    judged = truth.judge(exact.states, exact.condition, rows)
    assert judged.values["restoration/mse"] < 1e-4 * float(values.square().mean())


def test_free_baselines_are_told_the_problem_in_units_of_states(truth, generator):
    lines = generator.baseline("interpolated", 16, 0)
    told = generator.told(16, 0)
    seen = told.states.operator.observed(told.states.measurement)
    assert torch.allclose(lines.states[: len(seen)][seen], told.states.measurement[seen].float(), atol=1e-5)


def _sets(states, truth, hidden):
    domain = TimeSeries(2, 1, freq="h", season=1)
    reference = SampleSet(truth, Conditioning(truth={"hidden": hidden}), domain)
    return SampleSet(states, Conditioning(), domain), reference


def test_what_was_measured_is_not_judged():
    hidden = torch.tensor([[[True, False, True]]])
    samples, reference = _sets(torch.tensor([[[2.0, 9.0, 0.0]], [[0.0, -9.0, 0.0]]]), torch.zeros(1, 1, 3), hidden)
    assert HiddenError().compute(samples, reference) == pytest.approx(1.0)  # (4 + 0 + 0 + 0)/4
    assert HiddenError("mean").compute(samples, reference) == pytest.approx(0.5)  # (1 + 0)/2
    assert HiddenCRPS().compute(samples, reference) == pytest.approx(0.25)  # 1 - 2/4, and 0
    with pytest.raises(AnydiffError, match="nothing was measured"):
        HiddenError().compute(samples, SampleSet(reference.states, Conditioning(), reference.domain))
    with pytest.raises(UnknownNameError, match="kelvin"):
        HiddenError(units="kelvin")


def test_other_operators_than_masks_hide_everything_and_have_no_known_entries(generator):
    told = generator.told(8, 0)
    shape = told.states.operator.shape
    pooled = Problem(AveragePooling(shape, 2), torch.zeros(1, 1, shape[1] // 2), 0.1)
    assert with_hidden(Conditioning(), pooled, 3).truth["hidden"].all()
    with pytest.raises(NotApplicableError, match="known entries are those of a mask"):
        type(told)(pooled, pooled, {}).known()


def test_a_suite_with_inverse_methods_runs_on_tasks_with_a_measurement_and_no_other():
    tasks = [load_task("images/fashion"), load_task("images/inpaint")]
    inverse, quick = load_suite("inverse"), load_suite("quick")
    assert [task.name for task in inverse.fitting(tasks)] == ["images/inpaint"]
    assert [task.name for task in quick.fitting(tasks)] == ["images/fashion"]
    with pytest.raises(AnydiffError, match=r"'images/fashion@1' has no measurement.*--suite quick"):
        inverse.fitting(tasks[:1])
    with pytest.raises(AnydiffError, match=r"'images/inpaint@1' has a measurement.*--suite inverse"):
        quick.fitting(tasks[1:])


def test_methods_of_a_suite_name_inverse_methods():
    made = Method.parse({"inverse": {"name": "dps", "options": {"scale": 0.3}}}, "a method")
    assert made.title == "dps(scale=0.3)"
    assert "dps" in made.names
    assert Method.parse({**made.identity(), "label": ""}, "the stored method") == made
    guided = Method.parse({"inverse": "mmps", "solver": "dpm-solver++-2m"}, "a method")
    assert guided.title == "mmps (solver=dpm-solver++-2m)"
    assert "inverse" not in Method(solver="ddim").identity()  # the keys of rows stored before stay as they are
    with pytest.raises(AnydiffError, match="name the inverse method"):
        Method.parse({"solver": "restored"}, "a method")
    with pytest.raises(AnydiffError, match="does not go with an inverse method"):
        Method.parse({"inverse": "mmps", "solver": "recipe"}, "a method")
    suite = Suite.parse({"name": "s", "methods": [{"inverse": "mpms"}], "nfe": [2], "seeds": [0]}, "a suite")
    with pytest.raises(UnknownNameError, match="mmps"):
        suite.check_names()


def test_a_measurement_of_other_rows_is_refused(truth, monkeypatch):
    monkeypatch.setattr("anydiff_timeseries.imputation.half_of_the_hours", lambda samples, rows: 3)
    with pytest.raises(AnydiffError, match="gave int for 2 held-out examples"):
        measured_problem(truth.task, truth.reference, [0, 1])
    with pytest.raises(AnydiffError, match="has no measurement"):
        measured_problem(load_task("images/fashion"), truth.reference, [0])
    with pytest.raises(AnydiffError, match="do not go together"):
        Task.parse(
            {"name": "a/b", "recipe": "a/b", "samples": 2, "measured": "m:f", "evaluator": "m:g"}, "a task"
        )  # fmt: skip


def test_an_ensemble_kalman_update_of_many_members_is_the_gaussian_posterior():
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64))
    noise = torch.randn(1, 20000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem(Mask((2,), torch.tensor([True, False])), torch.tensor([2.0, 0.0]), Gaussian(0.5))
    found = kalman_update(noise @ root.T, problem, 20000, 1)
    gain = torch.tensor([1.0, 0.8], dtype=torch.float64) / 1.25
    assert torch.allclose(found.mean(0), 2 * gain, atol=0.03)
    assert float(found[:, 1].var()) == pytest.approx(1 - 0.8 * float(gain[1]), rel=0.05)
    assert math.isclose(float(found[:, 0].var()), 0.2, rel_tol=0.05)


def test_parts_of_inverse_methods_have_titles():
    assert Method(solver="restored", inverse=Part(name="ddnm")).title == "ddnm"
