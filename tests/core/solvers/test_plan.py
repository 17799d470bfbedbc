"""Plans as data: JSON, printing, calls counted, ends, finite coefficients; for every registered solver."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math

import numpy as np
import pytest
import torch
from checks import check_ends, check_nodes
from exact import (
    PATHS,
    Counting,
    gaussian,
    gaussian_clean,
    mixture,
    reference,
    root_mean_square,
    solver_entries,
    starts,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.paths import EDM, Flow, VPLinear, time_grid
from anydiff.solvers import ENDS, Plan, Program, Solver, build_plan, compile_plan, execute
from anydiff.solvers.ddim import DDIM, DDPM
from anydiff.solvers.dpm_solver_pp import DPMSolverPP2M
from anydiff.solvers.plan import Apply, Combine, Evaluate, Noise
from anydiff.solvers.runge_kutta import EDMHeun
from anydiff.states import Conditioning, NoiseSource, StateSpec

# The general log-SNR path inverts λ by bisection, slowly, and adds nothing to plans.
PATHS = {name: path for name, path in PATHS.items() if name != "vp-log-snr"}
SOLVERS = [entry.name for entry in solver_entries()]
SPEC = StateSpec.single((2,))


@functools.cache
def least(name: str, path, end: str) -> int:
    """The smallest budget the solver takes."""
    for nfe in range(1, 12):
        try:
            compile_plan(name, path, nfe, end=end)
        except AnydiffError as error:
            assert "nfe" in str(error)  # noqa: PT017 - the sentence must name the field
        else:
            return nfe
    raise AssertionError(f"{name} takes no budget below 12")


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("end", ENDS)
def test_budget_is_never_exceeded_and_calls_are_as_counted(name, end):
    for path_name, path in PATHS.items():
        first = least(name, path, end)
        # every budget once: how a solver splits one does not depend on the path; quadrature makes two families slow
        slow = name == "lms" or name.startswith("deis")
        every = path_name == "vp-linear" and (end == "clean" or not slow)
        budgets = range(first, 51, 7 if slow else 1) if every else (first, first + 1, 11)
        for nfe in budgets:
            plan = compile_plan(name, path, nfe, end=end)
            assert first <= plan.nfe <= nfe
            # what is left over is less than one more step
            assert nfe - plan.nfe < max(4, first), (path_name, nfe, plan.nfe)
            if nfe in (first, 11):
                counting = Counting(gaussian(path))
                out = execute(plan, counting, starts(path, 3), noise=NoiseSource(SPEC, 0))
                assert len(counting.calls) == plan.nfe
                assert [t for t, _ in counting.calls] == [i.t for i in plan.instructions if isinstance(i, Evaluate)]
                assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("name", SOLVERS)
def test_one_step_is_finite_on_every_path(name):
    for path in PATHS.values():
        for end in ENDS:
            plan = compile_plan(name, path, least(name, path, end), end=end)
            out = execute(plan, mixture(path), starts(path, 3), noise=NoiseSource(SPEC, 0))
            assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("path", [VPLinear(t_end=0.0), Flow(t_end=0.0), EDM(t_end=1e-9), EDM(t_end=0.0)])
def test_grids_that_end_at_clean_data(name, path):
    for steps in (1, 2, 12):
        for end in ("clean", "stop"):
            budget = steps * max(1, least(name, path, end))
            plan = compile_plan(name, path, budget, end=end)
            out = execute(plan, mixture(path), starts(path, 3), noise=NoiseSource(SPEC, 0))
            assert bool(torch.isfinite(out).all()), (steps, end)


@pytest.mark.parametrize("name", SOLVERS)
def test_nodes_and_final_time(name):
    for path in PATHS.values():
        check_nodes(name, path)


def test_heun_spends_an_odd_budget_whole():
    for nfe in range(1, 30):
        assert compile_plan("heun", VPLinear(), nfe).nfe == nfe
        assert compile_plan("edm", VPLinear(), nfe).nfe == nfe


@pytest.mark.parametrize("name", SOLVERS)
def test_json_keeps_every_bit(name):
    for path in (PATHS["vp-linear"], PATHS["flow"]):
        plan = compile_plan(name, path, 12)
        again = Plan.from_json(plan.to_json())
        assert again == plan
        assert again.to_json() == plan.to_json()
        args = (gaussian(path), starts(path, 3))
        one, two = (execute(p, *args, noise=NoiseSource(SPEC, 3)) for p in (plan, again))
        assert torch.equal(one, two)


@settings(max_examples=30)
@given(st.data())
def test_edited_plans_survive_json(data):
    floats = st.floats(allow_nan=False, allow_infinity=True)
    plan = compile_plan("dpm-solver++-2m", VPLinear(), data.draw(st.integers(1, 4)))
    edited = []
    for instruction in plan.instructions:
        if isinstance(instruction, Combine):
            terms = []
            for register, coefficient in instruction.terms:
                if data.draw(st.booleans()):
                    coefficient = np.array(data.draw(st.lists(floats, min_size=1, max_size=3)))
                elif data.draw(st.booleans()):
                    coefficient = data.draw(floats)
                terms.append((register, coefficient))
            instruction = Combine(instruction.out, tuple(terms))
        elif isinstance(instruction, Evaluate) and data.draw(st.booleans()):
            instruction = dataclasses.replace(instruction, t=data.draw(floats), kind="noise")
        edited.append(instruction)
    first = Plan(data.draw(st.text()), data.draw(st.text()), plan.nodes, tuple(edited), plan.result, ("mu",))
    again = Plan.from_json(first.to_json())
    assert again.to_json() == first.to_json()
    for one, two in zip(first.instructions, again.instructions, strict=True):
        assert type(one) is type(two)
        if isinstance(one, Combine):
            for (r, c), (s, d) in zip(one.terms, two.terms, strict=True):
                assert r == s
                assert np.asarray(c).tobytes() == np.asarray(d).tobytes()
    assert str(again) == str(first)


@pytest.mark.parametrize("name", SOLVERS)
def test_printing_shows_every_instruction(name):
    plan = compile_plan(name, VPLinear(), 6)
    text = str(plan)
    assert f"{plan.nfe} NFE" in text
    assert f"{plan.draws} noise draws" in text
    assert len(text.splitlines()) == len(plan.instructions) + 2
    for instruction in plan.instructions:
        assert f"{instruction.out} " in text


def good_body() -> dict:
    return json.loads(compile_plan("ddim", VPLinear(), 2).to_json())


@pytest.mark.parametrize(
    "edit",
    [
        lambda b: b.pop("nodes"),
        lambda b: b.update(format=4),
        lambda b: b["instructions"][0].update(op="jump"),
        lambda b: b["instructions"][0].update(extra=1),
        lambda b: b["instructions"][0].update(state="nowhere"),
        lambda b: b["instructions"][1].update(terms=[["x0", "abc"]]),
        lambda b: b["instructions"][1].update(terms=[]),
        lambda b: b["instructions"][1].update(terms=[["x0", 1.0], ["x0", 2.0]]),
        lambda b: b["instructions"][1].update(out="x0"),
        lambda b: b.update(result="nowhere"),
        lambda b: b.update(instructions=3),
    ],
)
def test_a_damaged_plan_is_one_sentence(edit):
    body = good_body()
    edit(body)
    with pytest.raises(FileFormatError, match="plan"):
        Plan.from_json(json.dumps(body))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", compile_plan("ddim", VPLinear(), 2).to_json()[:-40]])
def test_truncated_text_is_one_sentence(text):
    with pytest.raises(FileFormatError, match="plan"):
        Plan.from_json(text)


def test_bad_budgets_and_names():
    with pytest.raises(UnknownNameError, match="did you mean 'ddim'"):
        compile_plan("dddim", VPLinear(), 5)
    with pytest.raises(UnknownNameError, match="did you mean 'eta'"):
        compile_plan("ddim", VPLinear(), 5, etta=0.5)
    with pytest.raises(UnknownNameError, match="did you mean 'denoise'"):
        compile_plan("ddim", VPLinear(), 5, end="denoised")
    for nfe in (0, -3, 2.0, True):
        with pytest.raises(AnydiffError, match="nfe"):
            compile_plan("ddim", VPLinear(), nfe)
    with pytest.raises(AnydiffError, match="needs at least 2"):
        compile_plan("ddim", VPLinear(), 1, end="denoise")
    with pytest.raises(AnydiffError, match="eta"):
        DDIM(eta=1.5)
    with pytest.raises(AnydiffError, match="churn"):
        EDMHeun(churn=-1.0)
    with pytest.raises(UnknownNameError, match="variance"):
        DDPM(variance="small")


def rows(plan: Plan) -> list[dict[str, float]]:
    return [dict(i.terms) for i in plan.instructions if isinstance(i, Combine)]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_rows_are_the_papers(eta):
    path = VPLinear()
    plan = build_plan(DDIM(eta), path, time_grid(path, 6), "stop")
    for (s, t), row in zip(zip(plan.nodes, plan.nodes[1:], strict=False), rows(plan), strict=True):
        h = path.log_snr(t) - path.log_snr(s)
        noise = eta * path.sigma(t) * math.sqrt(1 - math.exp(-2 * h))
        a = math.sqrt(path.sigma(t) ** 2 - noise**2) / path.sigma(s)
        expected = [a, path.alpha(t) - a * path.alpha(s)] + ([noise] if eta else [])
        assert list(row.values()) == pytest.approx(expected, rel=1e-9)


def test_2m_rows_are_the_papers_and_equal_steps_give_three_halves():
    path = VPLinear()
    plan = build_plan(DPMSolverPP2M(), path, time_grid(path, 6, "log-snr"), "stop")
    for index, row in enumerate(rows(plan)):
        s, t = plan.nodes[index], plan.nodes[index + 1]
        h = path.log_snr(t) - path.log_snr(s)
        gain = -path.alpha(t) * math.expm1(-h)
        x, *data = row.values()
        assert x == pytest.approx(path.sigma(t) / path.sigma(s), rel=1e-12)
        assert sorted(data) == pytest.approx([gain] if index == 0 else [-0.5 * gain, 1.5 * gain], rel=1e-9)
    grid = [1.0, 0.6, 0.5, 0.1]
    row = rows(build_plan(DPMSolverPP2M(), path, grid, "stop"))[-1]
    first, second, third = (path.log_snr(grid[i + 1]) - path.log_snr(grid[i]) for i in range(3))
    gain = -path.alpha(0.1) * math.expm1(-third)
    ratio = second / third
    assert row["D2"] == pytest.approx(-gain / (2 * ratio), rel=1e-12)
    assert row["D3"] == pytest.approx(gain * (1 + 1 / (2 * ratio)), rel=1e-12)
    assert first > 0


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine", "edm", "flow"])
def test_clean_end_beats_stopping_and_denoising(name):
    check_ends(PATHS[name])


def test_no_error_floor_at_the_least_noise():
    """2M with 400 calls is below 1e-5 on VP, where a full last jump stalls near 4e-4 (PEERS.md)."""
    path = VPLinear()
    x = starts(path)
    target = gaussian_clean(path, x, path.t_start)
    errors = {n: root_mean_square(execute(compile_plan("dpm-solver++-2m", path, n), gaussian(path), x) - target)
              for n in (400, 1600)}  # fmt: skip
    oracle = mixture(path)
    truth = reference(path, oracle, x, path.t_end)
    level = path.sigma(path.t_end) ** 2
    exact = (truth + level / 2 * oracle.predict(truth, path.t_end, "score")) / path.alpha(path.t_end)
    mixed = root_mean_square(execute(compile_plan("dpm-solver++-2m", path, 400), oracle, x) - exact)
    assert errors[1600] < 2e-6
    assert errors[400] < 2e-5
    assert mixed < 8e-5


def test_start_in_the_middle_is_the_tail_of_the_full_plan():
    """The tail of a grid as a custom grid, entered with the full plan's state there, ends with the same bits."""
    for path in PATHS.values():
        for solver in (DDIM(), EDMHeun()):
            grid = time_grid(path, 10)
            seen = {}
            plan = build_plan(solver, path, grid)
            full = execute(
                plan,
                mixture(path),
                starts(path),
                callbacks=[lambda s, seen=seen: seen.setdefault(s.t, s.state.clone())],
            )
            tail = build_plan(solver, path, time_grid(path, 6, grid[4:]))
            if grid[4] not in seen:
                continue
            # Heun's network sees the node twice: first as the end of a step
            state = seen[grid[4]] if isinstance(solver, DDIM) else None
            if state is None:
                state = execute(build_plan(solver, path, grid[:5], "stop"), mixture(path), starts(path))
            torch.testing.assert_close(execute(tail, mixture(path), state), full, rtol=1e-13, atol=1e-13)


class Shared(Solver):
    """A solver of an outsider: a draw used by two rows, a constant, an Apply, in a dozen lines."""

    order = 1

    def build(self, program, nodes):
        x, mu, z = program.start(), program.constant("mu"), program.noise()
        for s, t in itertools.pairwise(nodes):
            data = program.evaluate(x, s)
            x = program.apply("twice", x + 0.5 * data + 0.1 * z, node=t, by=2.0)
            x = 0.25 * x + mu
        return x


def test_shared_noise_constants_and_apply():
    path = VPLinear()
    plan = build_plan(Shared(), path, [1.0, 0.5, 0.1], "stop")
    assert plan.draws == 1
    assert plan.constants == ("mu",)
    assert any(isinstance(i, Apply) for i in plan.instructions)
    assert sum(isinstance(i, Noise) for i in plan.instructions) == 1
    oracle, start, mu = gaussian(path), starts(path, 3), torch.full((1, 2), 0.3, dtype=torch.float64)
    source = NoiseSource(SPEC, 5)
    z = source.draw(range(3), 1, torch.float64)
    x = start
    for s in (1.0, 0.5):
        x = 0.25 * 2.0 * (x + 0.5 * oracle(x, s) + 0.1 * z) + mu
    operations = {"twice": lambda value, t, by: value * by}
    for again in (plan, Plan.from_json(plan.to_json())):
        out = execute(
            again, oracle, start, noise=source, condition=Conditioning(sources={"mu": mu}), operations=operations
        )
        torch.testing.assert_close(out, x, rtol=1e-13, atol=1e-13)
    with pytest.raises(AnydiffError, match="constant 'mu'"):
        execute(plan, oracle, start, noise=source, operations=operations)
    with pytest.raises(UnknownNameError, match="unknown operation 'twice'; did you mean 'twicer'"):
        execute(
            plan,
            oracle,
            start,
            noise=source,
            condition=Conditioning(sources={"mu": mu}),
            operations={"twicer": operations["twice"]},
        )
    with pytest.raises(AnydiffError, match="draws noise"):
        execute(plan, oracle, start, condition=Conditioning(sources={"mu": mu}), operations=operations)


def test_the_zero_state_is_a_state():
    program = Program(VPLinear())
    plan = program.finish(0.0 * program.start(), "zero", (1.0, 0.5))
    assert torch.equal(execute(plan, gaussian(VPLinear()), torch.ones(2, 2)), torch.zeros(2, 2))
