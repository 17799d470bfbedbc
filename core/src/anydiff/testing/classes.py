"""Paths and solvers of classes, by exact laws on a small table: kernels, ends, the prior, samples, cost, batches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from anydiff.denoisers.table import TableOracle
from anydiff.denoisers.wrappers import Wrapper
from anydiff.paths.categorical import CategoricalPath, Kernel, Marginal, MaskAndReplace, Masked, Uniform
from anydiff.registry import Entry
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.categorical import CategoricalSolver
from anydiff.solvers.plan import Evaluate
from anydiff.states import UNCONDITIONAL, NoiseSource, StateSpec
from anydiff.testing.kit import CLASSES, check
from anydiff.testing.subject import Subject, require

COUNT, PLACES = 3, 2
"""Classes and entries of the table."""
DRAWS = 4000


def _spec(places: int = PLACES) -> StateSpec:
    return StateSpec.single((places,), kind="categorical", classes=COUNT)


def _path(plugin: Subject, entry: Entry, places: int = PLACES) -> CategoricalPath:
    path = plugin.build(entry)
    require(isinstance(path, CategoricalPath), f"it builds a {type(path).__name__}, which is no CategoricalPath.")
    bound: CategoricalPath = path.bind(_spec(places))
    return bound


def matrix(path: CategoricalPath, kernel: Kernel) -> Tensor:
    """A kernel as a matrix ``[K + 1, K + 1]``, float64: row u holds the law of where u goes, the mask last."""
    law, classes = path.law_tensor(torch.zeros(())), path.bound
    out = torch.zeros(classes + 1, classes + 1, dtype=torch.float64)
    out[:classes, :classes] = kernel.replace * law + kernel.keep * torch.eye(classes, dtype=torch.float64)
    out[:classes, classes] = kernel.mask
    out[classes, classes] = 1.0
    return out


@check("path.kernels", "paths", states=CLASSES)
def kernels(plugin: Subject, entry: Entry) -> None:
    """Rows of every kernel are laws, and kernels of consecutive times compose."""
    path = _path(plugin, entry)
    times = [path.t_end + share * (path.t_start - path.t_end) for share in (0.0, 0.1, 0.35, 0.7, 0.99, 1.0)]
    for r, s, t in itertools.combinations(times, 3):
        parts = matrix(path, path.kernel(r, s)), matrix(path, path.kernel(s, t))
        whole = matrix(path, path.kernel(r, t))
        for found in (*parts, whole):
            right = bool((found >= 0).all()) and torch.allclose(found.sum(1), torch.ones(COUNT + 1).double())
            require(right, f"a kernel between {r:g} and {t:g} has rows that are no laws: {found.sum(1).tolist()}.")
        close = torch.allclose(parts[0] @ parts[1], whole, rtol=0, atol=1e-12)
        require(close, f"the kernels from {r:g} to {s:g} and on to {t:g} are not the one from {r:g} to {t:g}.")
    marginal = matrix(path, path.marginal(times[3]))
    require(
        torch.allclose(marginal, matrix(path, path.kernel(times[0], times[3])), rtol=0, atol=1e-12),
        "marginal(t) is not the kernel from the data to t.",
    )


@check("path.levels", "paths", states=CLASSES)
def levels(plugin: Subject, entry: Entry) -> None:
    """All of the data is there at t_end and nothing at t_start; the log-SNR falls, and time() is its inverse."""
    path = _path(plugin, entry)
    require(path.keep(path.t_end) == 1, f"at t_end a class is kept with probability {path.keep(path.t_end):g}, not 1.")
    require(path.keep(path.t_start) == 0, f"at t_start it is kept with {path.keep(path.t_start):g}, not 0.")
    times = [path.t_end + (number + 0.5) / 50 * (path.t_start - path.t_end) for number in range(50)]
    found = [path.log_snr(t) for t in times]
    require(all(one > two for one, two in itertools.pairwise(found)), "the log-SNR does not fall with the time.")
    for t, level in zip(times[::7], found[::7], strict=True):
        require(abs(path.time(level) - t) <= 1e-6, f"time(log_snr({t:.4g})) is {path.time(level):.6g}.")
        back = float(path.when_lost(torch.tensor(path.lost(t), dtype=torch.float64)))
        require(abs(back - t) <= 1e-6, f"when_lost(lost({t:.4g})) is {back:.6g}.")


@check("path.draws", "paths", states=CLASSES)
def draws(plugin: Subject, entry: Entry) -> None:
    """Noised data have the law of the kernel, and the prior is that of t_start."""
    path = _path(plugin, entry)
    noise = NoiseSource(_spec(), 3, path.noise_law).draw(range(DRAWS), 0)
    clean = torch.zeros_like(noise, dtype=torch.int64) + torch.tensor([0, COUNT - 1])
    for t in (0.3, 0.8):
        found = path.noised(torch.full((DRAWS,), t, dtype=torch.float64), clean, noise)
        wanted = matrix(path, path.marginal(t))
        for place, source in enumerate((0, COUNT - 1)):
            _require_law(found[:, place], wanted[source], f"class {source} noised to t={t:g}")
    first = path.first(noise, UNCONDITIONAL)
    _require_law(first.flatten(), matrix(path, path.marginal(path.t_start))[0], "the prior")


def _require_law(found: Tensor, wanted: Tensor, what: str) -> None:
    counts = torch.bincount(found, minlength=COUNT + 1)
    require(len(counts) == COUNT + 1, f"{what} holds a class beyond the mask {COUNT}.")
    off = (counts / len(found) - wanted).abs() / ((wanted * (1 - wanted) / len(found)).sqrt() + 1e-9)
    require(float(off.max()) < 5, f"{what} has frequencies {(counts / len(found)).tolist()}, not {wanted.tolist()}.")


def _solver(plugin: Subject, entry: Entry) -> CategoricalSolver:
    solver = plugin.build(entry)
    require(
        isinstance(solver, CategoricalSolver), f"it builds a {type(solver).__name__}, which is no CategoricalSolver."
    )
    made: CategoricalSolver = solver
    return made


def _travelled(solver: CategoricalSolver, places: int = PLACES) -> list[CategoricalPath]:
    """The core's paths of classes that the solver can travel."""
    paths = (Masked(), Uniform(), MaskAndReplace(), Marginal((0.5, 0.3, 0.2)))
    built = [path.bind(_spec(places)) for path in paths]
    return [path for path in built if solver.travels(path)]


def table(places: int) -> Tensor:
    """A law of all sequences, ``[K, ...]``: entries depend on one another."""
    grids = torch.meshgrid(*[torch.arange(COUNT, dtype=torch.float64)] * places, indexing="ij")
    law = torch.exp(1.5 * torch.cos(sum((2 * n + 1.3) * grid for n, grid in enumerate(grids)) + grids[0] * grids[-1]))
    return law / law.sum()


@check("classes.guidance", "guidance", states=CLASSES)
def guidance(plugin: Subject, entry: Entry) -> None:
    """Its predictions are laws, no row depends on the others, and a run leaves nothing to the next one."""
    path = Masked().bind(_spec())
    inner = TableOracle(path, _spec(), table(PLACES))
    x = torch.tensor([[COUNT, COUNT], [0, COUNT], [COUNT, 2], [1, 1]])
    wrapper: Wrapper = plugin.build(entry)
    guided = wrapper.for_run(range(4))(inner)
    for t in (0.9, 0.3):
        made = guided.predict(x, t, "data")
        right = made.shape == (*x.shape, COUNT) and bool((made >= 0).all())
        require(right, f"at t={t} its prediction has shape {tuple(made.shape)}, or holds negative probabilities.")
        off = float((made.sum(-1) - 1)[x == COUNT].abs().max())
        require(off < 1e-6, f"at t={t} the probabilities of a mask sum to 1 only within {off:.2g}.")
        for row in range(3):
            alone = wrapper.for_run([row])(inner).predict(x[row : row + 1], t, "data")
            same = torch.allclose(alone[0][x[row] == COUNT], made[row][x[row] == COUNT])
            require(same, f"at t={t} row {row} alone is guided differently than among four.")
    plan = compile_plan("ancestral", path, 6)
    first, second = (sample(inner, _spec(), 6, solver=plan, guidance=wrapper, batch_size=size) for size in (6, 2))
    require(torch.equal(first, second), "samples differ by what it guided before, or by their batch.")


@check("classes.one-entry", "solvers", states=CLASSES)
def one_entry(plugin: Subject, entry: Entry) -> None:
    """A single entry is drawn from its exact law, on every path it travels, in one step and in several."""
    solver = _solver(plugin, entry)
    paths = _travelled(solver, 1)
    require(bool(paths), "it travels none of the core's paths of classes.")
    wanted = torch.tensor([0.7, 0.05, 0.25], dtype=torch.float64)
    for path in paths:
        oracle = TableOracle(path, _spec(1), wanted)
        for nfe in (1, 3) if solver.exact_for_one else (40,):
            found = sample(oracle, _spec(1), DRAWS, solver=compile_plan(solver, path, nfe), batch_size=DRAWS)
            _require_law(found[:, 0], torch.cat([wanted, torch.zeros(1)]), f"one entry on {path!r} in {nfe} steps")


@check("classes.converges", "solvers", states=CLASSES)
def converges(plugin: Subject, entry: Entry) -> None:
    """Many steps reach the joint law of entries that depend on one another, and no mask is left."""
    solver = _solver(plugin, entry)
    for path in _travelled(solver):
        oracle = TableOracle(path, _spec(), table(PLACES))
        found = sample(oracle, _spec(), DRAWS, solver=compile_plan(solver, path, 48), batch_size=DRAWS)
        require(int(found.max()) < COUNT, f"on {path!r} a mask is left at the end.")
        places = torch.bincount(found[:, 0] * COUNT + found[:, 1], minlength=COUNT**2) / DRAWS
        distance = float((places - table(PLACES).flatten()).abs().sum() / 2)
        require(distance < 0.06, f"after 48 steps on {path!r} the total variation is {distance:.3g}; 0.06 is allowed.")


@check("classes.cost", "solvers", states=CLASSES)
def cost(plugin: Subject, entry: Entry) -> None:
    """A plan spends what the budget allows and no more, and its calls are within the path."""
    solver = _solver(plugin, entry)
    path = _travelled(solver)[0]
    for budget in (1, 2, 5, 12):
        plan = compile_plan(solver, path, budget)
        require(plan.nfe <= budget, f"a budget of {budget} network calls becomes a plan of {plan.nfe}.")
        visited = [each.t for each in plan.instructions if isinstance(each, Evaluate)]
        inside = all(path.t_end < t <= path.t_start for t in visited)
        require(inside, f"it calls the network at t={min(visited):g}, outside of ({path.t_end:g}, {path.t_start:g}].")


@check("classes.batch", "solvers", states=CLASSES)
def batch(plugin: Subject, entry: Entry) -> None:
    """Sample k is the same in batches of 1, 3 and 7, and in any order."""
    solver = _solver(plugin, entry)
    for path in _travelled(solver):
        oracle = TableOracle(path, _spec(), table(PLACES))
        plan = compile_plan(solver, path, 4)
        whole = sample(oracle, _spec(), 7, solver=plan, batch_size=7)
        turned: Sequence[int] = (5, 2, 6, 0)
        for size in (1, 3):
            same = torch.equal(whole, sample(oracle, _spec(), 7, solver=plan, batch_size=size))
            require(same, f"on {path!r} a sample depends on its batch.")
        same = torch.equal(whole[list(turned)], sample(oracle, _spec(), turned, solver=plan))
        require(same, f"on {path!r} a sample depends on the others or their order.")
