"""The mutation table: each mutant is one wrong line, put in by monkeypatching, and the check that must notice it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import checks
import torch
from exact import PATHS

import anydiff.denoisers.kinds as denoisers
import anydiff.paths.base as paths_base
import anydiff.paths.grids as grids
import anydiff.paths.variance_preserving as vp
import anydiff.solvers.base as solvers_base
import anydiff.solvers.ddim as ddim
import anydiff.solvers.dpm_solver_pp as multistep
import anydiff.solvers.executor as executor
import anydiff.solvers.runge_kutta as runge_kutta
import anydiff.states.noise as noise
import anydiff.states.streams as streams
from anydiff.denoisers.wrappers import DynamicThreshold
from anydiff.guidance import classifier_free as guidance
from anydiff.guidance import score as score_guidance


@dataclass(frozen=True)
class Mutant:
    """``owner.attribute`` becomes ``change(original)``; ``check`` must then fail."""

    name: str
    owner: Any
    attribute: str
    change: Callable[[Any], Any]
    check: Callable[[], None]


LINEAR = PATHS["vp-linear"]


def scaled(factor: float) -> Callable[[Any], Any]:
    """The original's result times ``factor``."""
    return lambda original: lambda *args, **kwargs: factor * original(*args, **kwargs)


def constant(value: Any) -> Callable[[Any], Any]:
    """Something else altogether."""
    return lambda original: value


def at_argument(index: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The original, called with one argument changed."""

    def mutate(original):
        def call(*args, **kwargs):
            changed = list(args)
            changed[index] = change(changed[index])
            return original(*changed, **kwargs)

        return call

    return mutate


def on_result(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The original, with its result changed."""
    return lambda original: lambda *args, **kwargs: change(original(*args, **kwargs))


def order_of(name: str, least: float, greatest: float) -> Callable[[], None]:
    """The measured order lies between two bounds."""

    def check() -> None:
        order = checks.measured_order(name, LINEAR, "gaussian", (40, 80, 160))
        assert least < order < greatest, order

    return check


def last_step_dropped(original):
    """A build that never sees the last node."""
    return lambda self, program, nodes: original(self, program, nodes[:-1])


def averaged(leaf, seed, samples, draw):
    """Noise made symmetric by averaging both triangles, which halves its variance."""
    z = streams.standard_normal(seed, samples, draw, leaf.name, leaf.shape)
    return (z + z.swapaxes(1, 2)) / 2


MUTANTS = [
    Mutant(
        "factor 2 in a derivative", paths_base, "_derivative", scaled(2.0), lambda: checks.check_derivatives(LINEAR)
    ),
    Mutant(
        "half of beta in log alpha", vp.VPLinear, "_log_alpha", scaled(0.5), lambda: checks.check_closed_forms(LINEAR)
    ),
    Mutant(
        "sigma and alpha swapped",
        vp.VPLinear,
        "_alpha",
        constant(vp.VPLinear._sigma),
        lambda: checks.check_closed_forms(LINEAR),
    ),
    Mutant(
        "sub-VP's sigma as a variance",
        vp.SubVP,
        "_sigma",
        on_result(torch.sqrt),
        lambda: checks.check_closed_forms(PATHS["sub-vp"]),
    ),
    Mutant(
        "log-SNR twice too large",
        vp.VPLinear,
        "_time",
        at_argument(1, lambda v: v / 2),
        lambda: checks.check_inverse_log_snr(LINEAR, 0.4),
    ),
    Mutant(
        "g² without the drift's part",
        paths_base.GaussianPath,
        "squared_diffusion",
        constant(lambda self, t: 2 * self.sigma(t) * self.d_sigma(t)),
        lambda: checks.check_stochastic_equation(LINEAR),
    ),
    Mutant(
        "off by one in the grid",
        grids,
        "_pin",
        on_result(lambda nodes: nodes[:-2] + nodes[-1:]),
        lambda: checks.check_grid(LINEAR, 10, "log-snr"),
    ),
    Mutant(
        "end of the grid not exact",
        grids,
        "_pin",
        on_result(lambda nodes: [*nodes[:-1], nodes[-1] * 1.5]),
        lambda: checks.check_grid(LINEAR, 10, "log-snr"),
    ),
    Mutant(
        "times truncated to thousandths",
        grids,
        "_pin",
        on_result(lambda nodes: [nodes[0], *(int(t * 1000) / 1000 for t in nodes[1:-1]), nodes[-1]]),
        lambda: checks.check_grid(LINEAR, 400, "log-snr"),
    ),
    Mutant(
        "last step dropped",
        multistep.DPMSolverPP,
        "build",
        last_step_dropped,
        lambda: checks.check_reached("dpm-solver++-2m", LINEAR),
    ),
    Mutant(
        "last step dropped (DDIM)", ddim.DDIM, "build", last_step_dropped, lambda: checks.check_reached("ddim", LINEAR)
    ),
    Mutant(
        "score sign in the conversion",
        denoisers,
        "_from_data",
        on_result(lambda pq: (pq[0], -pq[1])),
        lambda: checks.check_conversions(LINEAR),
    ),
    Mutant(
        "conversion without alpha",
        denoisers,
        "_to_data",
        on_result(lambda pq: (pq[0] * 1.01, pq[1])),
        lambda: checks.check_conversions(LINEAR),
    ),
    Mutant(
        "full jump at the end",
        solvers_base,
        "_end",
        lambda original: (
            lambda program, x, last, end: program.last[1] if end == "clean" else original(program, x, last, end)
        ),
        lambda: checks.check_ends(LINEAR),
    ),
    Mutant(
        "wrong final step: none",
        solvers_base,
        "_end",
        lambda original: lambda program, x, last, end: x if end == "clean" else original(program, x, last, end),
        lambda: checks.check_ends(LINEAR),
    ),
    Mutant("wrong sign of q1", multistep, "midpoint_estimate", scaled(-1.0), order_of("dpm-solver++-2m", 1.8, 2.2)),
    Mutant(
        "alpha ratio instead of sigma ratio",
        multistep,
        "transfer_ratio",
        constant(lambda s, t, *rest: t.alpha / s.alpha),
        order_of("dpm-solver++-2m", 1.8, 2.2),
    ),
    Mutant(
        "wrong r in 2M",
        multistep,
        "midpoint_estimate",
        constant(lambda known, t: known[0].value + 2.0 * (known[0].value - known[1].value)),
        order_of("dpm-solver++-2m", 1.8, 2.2),
    ),
    Mutant(
        "time slope without its data part",
        runge_kutta,
        "_slope",
        constant(lambda x, data, node: node.path.d_sigma(node.t) / node.sigma * x),
        order_of("heun", 1.8, 2.2),
    ),
    Mutant("factor 2 in the time slope", runge_kutta, "_slope", scaled(2.0), order_of("heun", 1.8, 2.2)),
    Mutant(
        "noise std squared",
        ddim,
        "ddim_row",
        lambda original: lambda program, x, data, s, t, std, shrink: original(program, x, data, s, t, std**2, shrink),
        lambda: checks.check_moments(LINEAR),
    ),
    Mutant(
        "eta mistaken: noise without shrinking",
        ddim,
        "ddim_row",
        lambda original: lambda program, x, data, s, t, std, shrink: original(program, x, data, s, t, std, t.sigma),
        lambda: checks.check_moments(LINEAR),
    ),
    Mutant(
        "churn's noise twice",
        runge_kutta.EDMHeun,
        "_churn",
        lambda original: (
            lambda self, program, x, s, steps: (lambda y, node: (x + 2.0 * (y - x), node))(
                *original(self, program, x, s, steps)
            )
        ),
        lambda: checks.check_moments(LINEAR),
    ),
    Mutant(
        "sample index ignored in the stream",
        noise,
        "standard_normal",
        at_argument(1, lambda samples: [0] * len(samples)),
        lambda: checks.check_streams(),
    ),
    Mutant(
        "row number instead of sample index",
        noise,
        "standard_normal",
        at_argument(1, lambda samples: range(len(samples))),
        lambda: checks.check_streams(),
    ),
    Mutant(
        "draw number ignored", noise, "standard_normal", at_argument(2, lambda draw: 0), lambda: checks.check_streams()
    ),
    Mutant("leaf name ignored", streams, "_stream_key", constant(lambda stream: 1), lambda: checks.check_streams()),
    Mutant(
        "symmetric noise averaged",
        noise.GaussianNoise,
        "draw",
        constant(lambda self, leaf, seed, samples, draw: averaged(leaf, seed, samples, draw)),
        lambda: checks.check_symmetric_noise(),
    ),
    Mutant(
        "guidance with the wrong sign",
        guidance.torch,
        "lerp",
        lambda original: lambda a, b, w: original(b, a, w),
        lambda: checks.check_classifier_free(LINEAR),
    ),
    Mutant(
        "guidance scale plus one",
        guidance.ClassifierFree,
        "_scale",
        on_result(lambda scale: scale + 1.0),
        lambda: checks.check_classifier_free(LINEAR),
    ),
    Mutant(
        "gradient guidance with the wrong sign",
        score_guidance.ScoreGuidance,
        "_log_density",
        scaled(-1.0),
        lambda: checks.check_score_guidance(LINEAR),
    ),
    Mutant(
        "gradient guidance without the chain rule",
        score_guidance.ScoreGuidance,
        "_gradient",
        lambda original: (
            lambda self, *arguments: (
                original(self, *arguments)[0],
                original(dataclasses.replace(self, at="data-direct"), *arguments)[1],
            )
        ),
        lambda: checks.check_score_guidance(LINEAR),
    ),
    Mutant(
        "threshold over the whole batch",
        DynamicThreshold,
        "limit",
        lambda original: lambda self, data: original(self, data.reshape(1, -1)).reshape(data.shape),
        lambda: checks.check_threshold(9, 4, 0.9, 2.0),
    ),
    Mutant(
        "threshold without division",
        DynamicThreshold,
        "limit",
        scaled(2.0),
        lambda: checks.check_threshold(9, 4, 0.9, 2.0),
    ),
    Mutant(
        "a term of a row lost",
        executor,
        "weighted_sum",
        lambda original: lambda target, sources, factors: original(target, sources[:1], factors[:1]),
        lambda: checks.check_executor(checks.small_plan()),
    ),
    Mutant(
        "an alias not copied",
        executor,
        "_own",
        constant(lambda value, inputs: value),
        lambda: checks.check_executor(checks.small_plan()),
    ),
]
