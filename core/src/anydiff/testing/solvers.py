"""Solvers, on a Gaussian whose score and flow are known exactly: limit, order, cost, ends, batches, noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.paths import EDM, VE, Flow, GaussianPath, SubVP, VPCosine, VPLinear
from anydiff.registry import Entry
from anydiff.samplers import sample
from anydiff.solvers import Solver, build_plan, compile_plan, execute
from anydiff.solvers.plan import Apply, Combine, Evaluate, Plan
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff.testing.kit import NUMBERS, check
from anydiff.testing.subject import Subject, require, skip

MEAN, STD = 0.3, 0.5
"""The Gaussian target."""
STEPS = 120
"""Steps that must reach it."""
FACTS = ("order", "kind", "calls_per_step", "stochastic", "source")


def _solver(plugin: Subject, entry: Entry) -> Solver:
    solver: Solver = plugin.build(entry)
    require(isinstance(solver, Solver), f"it builds a {type(solver).__name__}, which is no anydiff.solvers.Solver.")
    return solver


def _is_stochastic(entry: Entry) -> bool:
    return bool(entry.metadata.get("stochastic"))


def _oracle(path: GaussianPath, std: float = STD) -> GaussianOracle:
    return GaussianOracle(path, torch.tensor([MEAN], dtype=torch.float64), std**2)


class _Counting(Denoiser):
    """Another denoiser, with its calls counted."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.path = inner, inner.path
        self.native_kind, self.sigma_data, self.spec = inner.native_kind, inner.sigma_data, inner.spec
        self.calls = 0

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        self.calls += 1
        return self.inner.native(x, t, condition)


class _UnitDraws:
    """Noise that is one in the row of its own number and zero elsewhere: what a linear plan makes of each draw."""

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.tensor([[float(row == draw + 1)] for row in samples], dtype=dtype, device=device)


def _law(plan: Plan, path: GaussianPath, std: float) -> tuple[float, float]:
    """Mean and deviation of the plan's sample for the target N(MEAN, std²), without sampling where it is linear."""
    oracle = _oracle(path, std)
    if _is_nonlinear(plan):
        drawn = sample(oracle, (1,), 512, solver=plan, dtype=torch.float64, batch_size=512)
        return float(drawn.mean()), float(drawn.std())
    return _linear_law(plan, oracle, 0.0, path.sigma(plan.nodes[0]))


def _linear_law(plan: Plan, oracle: Denoiser, mean: float, std: float) -> tuple[float, float]:
    """Mean and deviation of where a linear plan takes N(mean, std²)."""
    start = torch.full((plan.draws + 2, 1), mean, dtype=torch.float64)
    start[1] += std
    rows = execute(plan, oracle, start, noise=_UnitDraws()).flatten()
    return float(rows[0]), float((rows[1:] - rows[0]).norm())


def _is_nonlinear(plan: Plan) -> bool:
    return any(isinstance(instruction, Apply) for instruction in plan.instructions)


def _starts(path: GaussianPath, t: float) -> Tensor:
    return torch.tensor([[-1.2], [0.4], [1.7]], dtype=torch.float64) * path.sigma(t)


def _endpoints(plan: Plan, path: GaussianPath) -> Tensor:
    """Where a deterministic plan takes three states."""
    return execute(plan, _oracle(path), _starts(path, plan.nodes[0])).flatten()


def _flow(path: GaussianPath, first: float, last: float) -> Tensor:
    """The exact probability-flow ODE from one time to another: (x - α m)/sqrt(α² s² + σ²) is constant."""
    start = _starts(path, first).flatten() - path.alpha(first) * MEAN
    return path.alpha(last) * MEAN + _spread(path, last) / _spread(path, first) * start


def _spread(path: GaussianPath, t: float) -> float:
    """Deviation of the noised Gaussian at time t."""
    return math.sqrt(path.alpha(t) ** 2 * STD**2 + path.sigma(t) ** 2)


@check("solver.facts", "solvers")
def facts(plugin: Subject, entry: Entry) -> None:
    """It registers order, kind, calls_per_step, stochastic and source, and the solver says the same."""
    solver = _solver(plugin, entry)
    absent = [fact for fact in FACTS if entry.metadata.get(fact) in (None, "")]
    require(not absent, f"it does not register {', '.join(absent)}.")
    for fact in ("order", "calls_per_step"):
        said, found = entry.metadata[fact], getattr(solver, fact)
        require(said == found, f"it registers {fact}={said}, but the solver says {found}.")


@check("solver.exact", "solvers", states=NUMBERS)
def exact(plugin: Subject, entry: Entry) -> None:
    """Many steps reach the exact flow of a Gaussian; with noise, its mean and deviation."""
    path = VPLinear()
    solver = _solver(plugin, entry)
    plan = compile_plan(solver, path, STEPS * solver.calls_per_step, end="stop")
    if plan.draws == 0:
        error = float((_endpoints(plan, path) - _flow(path, plan.nodes[0], plan.nodes[-1])).abs().max()) / STD
        require(error < 0.05, f"{STEPS} steps end {error:.3g} deviations from the exact flow of a Gaussian.")
        return
    mean, std = _law(plan, path, STD)
    tolerance = 0.2 if _is_nonlinear(plan) else 0.06
    require(abs(mean - MEAN) < tolerance * STD, f"{STEPS} steps give the mean {mean:.4g}, but the Gaussian has {MEAN}.")
    require(abs(std / STD - 1) < tolerance, f"{STEPS} steps give the deviation {std:.4g}, but the Gaussian has {STD}.")


@check("solver.order", "solvers", states=NUMBERS)
def order(plugin: Subject, entry: Entry) -> None:
    """Halving the steps' length divides the error against the exact flow as the registered order says, within 0.2."""
    solver = _solver(plugin, entry)
    declared = float(entry.metadata.get("order", 0))
    path = VPLinear()
    measured, left = -math.inf, math.inf
    # From mostly noise to mostly data, where the method's own error rules and not a path's ends; else all of the path,
    # which forgets what a multistep method lost in its first steps, and if need be in so many steps that it shows.
    whole = path.log_snr_range()
    for levels, counts in (
        ((-3.0, 2.0), (16, 32, 64, 128, 256)), (whole, (40, 80, 160, 320)), (whole, (160, 320, 640, 1280)),
    ):  # fmt: skip
        errors = [_error(solver, path, levels, steps) for steps in counts]
        if any(error is None for error in errors):
            return  # sampling error hides the order; solver.exact has looked at the law
        measured = max(measured, _rate([error for error in errors if error is not None]))
        left = min(left, errors[-1] or 0.0)
        if measured >= declared - 0.2:
            return
    require(False, f"it registers order {declared:g}, but {measured:.2f} is measured (an error of {left:.2g} is left).")


def _error(solver: Solver, path: GaussianPath, levels: tuple[float, float], steps: int) -> float | None:
    """The error of steps of equal length in log-SNR against what is exact; None if the plan is not linear.

    Without noise the exact flow is known; with noise, that states of the path's own law at the first node have its law
    at the last. Differences between results would not do: a method that is wrong by a constant factor converges too.
    """
    nodes = path.time(torch.linspace(*levels, steps + 1, dtype=torch.float64)).tolist()
    plan = build_plan(solver, path, nodes, end="stop")
    if _is_nonlinear(plan):
        return None
    first, last = plan.nodes[0], plan.nodes[-1]
    if plan.draws == 0:
        return float((_endpoints(plan, path) - _flow(path, first, last)).abs().max())
    mean, std = _linear_law(plan, _oracle(path), path.alpha(first) * MEAN, _spread(path, first))
    return max(abs(mean - path.alpha(last) * MEAN), abs(std - _spread(path, last)))


def _rate(errors: list[float]) -> float:
    """log2 of the ratio of the last errors; infinite where only rounding is left."""
    first, second, third = errors[-3:]
    if third < 1e-11:
        return math.inf
    return max(math.log2(first / second), math.log2(second / third))


@check("solver.cost", "solvers", states=NUMBERS)
def cost(plugin: Subject, entry: Entry) -> None:
    """The network is called as often as the plan says, never more than the budget, and at least half of it."""
    path = VPLinear()
    solver = _solver(plugin, entry)
    for budget in (*range(1, 13), 25):
        for end in ("clean", "denoise"):
            try:
                plan = compile_plan(solver, path, budget, end=end)
            except AnydiffError:  # a budget below one step is refused
                most = solver.calls_per_step + 2
                require(budget < most, f"it refuses a budget of {budget} calls, which pays {most - 2} per step.")
                continue
            require(plan.nfe <= budget, f"a budget of {budget} network calls becomes a plan of {plan.nfe}.")
            require(2 * plan.nfe >= budget, f"of a budget of {budget} network calls it spends only {plan.nfe}.")
            counted = _Counting(_oracle(path))
            sample(counted, (1,), 2, solver=plan)
            require(counted.calls == plan.nfe, f"a plan of {plan.nfe} calls made {counted.calls}.")


@check("solver.further-call", "solvers", states=NUMBERS)
def further_call(plugin: Subject, entry: Entry) -> None:
    """One more call never makes the error 4 times as large: what is left of a budget is no short step of low order."""
    solver = _solver(plugin, entry)
    if _is_stochastic(entry):
        return  # sampling error hides it
    begin = 24 * solver.calls_per_step
    for path in (VPLinear(), Flow()):
        before = math.inf
        for budget in range(begin, begin + solver.calls_per_step + 1):
            plan = compile_plan(solver, path, budget, end="stop")
            if _is_nonlinear(plan) or plan.draws:
                return
            off = float((_endpoints(plan, path) - _flow(path, plan.nodes[0], plan.nodes[-1])).abs().max())
            require(
                off < 4 * max(before, 1e-9),
                f"{budget} calls err by {off:.2g} on {path!r}, but {budget - 1} by {before:.2g}: the calls that are "
                "left over become a short step of low order; spread them over several steps.",
            )
            before = off


@check("solver.memory", "solvers", states=NUMBERS)
def memory(plugin: Subject, entry: Entry) -> None:
    """The longest sum of a plan does not grow with the calls: else n steps cost n² sums and keep n tensors."""
    solver = _solver(plugin, entry)
    few, many = (_longest_sum(compile_plan(solver, VPLinear(), 24 * k * solver.calls_per_step)) for k in (1, 4))
    require(
        many <= few + 2,
        f"the longest sum of a plan has {few} terms with 24 steps and {many} with 96: each step adds to a state that "
        "the network never sees; give that state a register of its own with program.keep(x).",
    )


def _longest_sum(plan: Plan) -> int:
    return max((len(made.terms) for made in plan.instructions if isinstance(made, Combine)), default=0)


@check("solver.one-step", "solvers", states=NUMBERS)
def one_step(plugin: Subject, entry: Entry) -> None:
    """The smallest budget gives finite samples on every path of the core."""
    solver = _solver(plugin, entry)
    for path in (VPLinear(), VPCosine(), SubVP(), VE(), EDM(), Flow()):
        plan = _smallest(solver, path)
        result = sample(_oracle(path), (1,), 3, solver=plan)
        require(result.isfinite().all(), f"one step on {path!r} gives {result.flatten().tolist()}.")


def _smallest(solver: Solver, path: GaussianPath) -> Plan:
    for budget in range(1, 17):
        try:
            return compile_plan(solver, path, budget)
        except AnydiffError:
            continue
    skip("no budget up to 16 calls buys one step.")


@check("solver.ends", "solvers", states=NUMBERS)
def ends(plugin: Subject, entry: Entry) -> None:
    """It begins at t_start, calls the network within the range, and ends at the noise level of t_end."""
    path = Flow()
    solver = _solver(plugin, entry)
    plan = compile_plan(solver, path, 30 * solver.calls_per_step, grid="time", end="stop")
    require((plan.nodes[0], plan.nodes[-1]) == (path.t_start, path.t_end), "the plan's nodes are not the grid's.")
    visited = [instruction.t for instruction in plan.instructions if isinstance(instruction, Evaluate)]
    require(bool(visited), "the plan never calls the network.")
    inside = all(path.t_end <= t <= path.t_start for t in visited)
    require(inside, f"it calls the network at t={min(visited):g} to {max(visited):g}, outside the path's range.")
    require(min(visited) <= plan.nodes[-2], "it never calls the network at or after the last node but one.")
    # All data at one point: x = α m + σ z, so what is left of z tells where the steps ended.
    mean, std = _law(plan, path, 0.0)
    last = path.sigma(path.t_end)
    require(abs(mean - path.alpha(path.t_end) * MEAN) < 0.05, f"a point at {MEAN} is reached at {mean:.4g}.")
    # A stochastic method in time keeps the noise of its last step, which need not be small.
    require(
        plan.draws or std < 8 * last,
        f"at t_end the noise should be {last:.3g}, but {std:.3g} is left: a step is missing.",
    )


@check("solver.batch", "solvers", states=NUMBERS)
def batch(plugin: Subject, entry: Entry) -> None:
    """A batch of four is four batches of one, for the solver and for each value of its options that are Literals."""
    mean = torch.tensor([MEAN, -MEAN], dtype=torch.float64)
    oracle = GaussianOracle(VPLinear(), mean, STD**2)
    for changed, solver in _choices(_solver(plugin, entry)):
        plan = compile_plan(solver, VPLinear(), 12)
        together = sample(oracle, (2,), 4, solver=plan, dtype=torch.float64, batch_size=4)
        alone = sample(oracle, (2,), 4, solver=plan, dtype=torch.float64, batch_size=1)
        same = torch.allclose(together, alone, rtol=1e-9, atol=1e-9)
        require(same, f"a sample depends on the batch it is drawn in{changed}.")


def _choices(solver: Any) -> Iterator[tuple[str, Solver]]:
    """(what was changed, the solver) for the solver as it is, and with each other value of each Literal option."""
    yield "", solver
    for name, kind in get_type_hints(type(solver)).items():
        for value in get_args(kind) if get_origin(kind) is Literal else ():
            if value != getattr(solver, name):
                yield f" with {name}={value!r}", dataclasses.replace(solver, **{name: value})


@check("solver.noise", "solvers", states=NUMBERS)
def noise(plugin: Subject, entry: Entry) -> None:
    """A solver registered as deterministic draws no noise; one registered as stochastic does."""
    plan = compile_plan(_solver(plugin, entry), VPLinear(), 12)
    declared = "stochastic" if _is_stochastic(entry) else "deterministic"
    require((plan.draws > 0) == _is_stochastic(entry), f"it registers as {declared}, but draws {plan.draws} noises.")
