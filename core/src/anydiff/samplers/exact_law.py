"""The exact law of what a plan draws: of small states of classes with an exact denoiser, without a random number."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor

from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.table import TableOracle
from anydiff.errors import AnydiffError
from anydiff.paths import CategoricalPath
from anydiff.solvers.plan import Evaluate, Plan, Transition
from anydiff.solvers.transitions import LAWS

#: States that are enumerated at most.
MOST_STATES = 1 << 16


def sampled_law(oracle: TableOracle, plan: Plan) -> Tensor:
    """The probabilities ``[K] * L`` of the samples of ``plan``, float64: the prior pushed through every transition.

    From each state a step draws every entry independently of the others, p(y | x) = Π_i p_i(y_i | x), so the law of the
    states after the step is Σ_x p(x) p(y | x), over all (K + 1)^L states, masks among them.

    Args:
        oracle: an exact denoiser of L entries of K classes.
        plan: compiled for the oracle's path; of evaluations and transitions in turn.

    Raises:
        AnydiffError: another kind of plan, too many states to enumerate, or a plan that leaves masks.
    """
    path, length = oracle.path, oracle.law.ndim
    assert isinstance(path, CategoricalPath)
    classes = path.bound
    symbols = classes + 1 if path.masks else classes
    if symbols**length > MOST_STATES:
        raise AnydiffError(
            f"{length} entries of {symbols} symbols have {symbols**length:,} states, but at most {MOST_STATES:,} are "
            "enumerated; take fewer entries."
        )
    calls = [each for each in plan.instructions if isinstance(each, Evaluate)]
    steps = [each for each in plan.instructions if isinstance(each, Transition)]
    if len(calls) != len(steps) or len(calls) + len(steps) != len(plan.instructions):
        raise AnydiffError(
            f"the plan has {len(calls)} evaluations and {len(steps)} transitions among {len(plan.instructions)} "
            "instructions, but an exact law follows from as many of one as of the other; take the solver 'ancestral'."
        )
    states = torch.tensor(list(itertools.product(range(symbols), repeat=length)))
    weights = _prior(path, states)
    for call, step in zip(calls, steps, strict=True):
        there = weights > 0
        made = oracle.predict(states[there], call.t, cast("PredictionKind", call.kind))
        entries = LAWS[step.rule](states[there], made, **step.options)[..., :symbols]
        joint = weights[there][:, None]
        for place in range(length):
            joint = (joint[..., None] * entries[:, place][:, None, :]).flatten(1)
        weights = joint.sum(0)
    clean = (states < classes).all(dim=1)
    left = float(weights[~clean].sum())
    if left > 1e-9:
        raise AnydiffError(f"the plan leaves masks with probability {left:.2g}; let it end at t = 0.")
    return weights[clean].reshape(oracle.law.shape)


def _prior(path: CategoricalPath, states: Tensor) -> Tensor:
    """The probability of each of ``states [N, L]`` at t = 1."""
    _, replaced, masked = path.marginal(1.0)
    single = torch.cat([replaced * path.law_tensor(states), torch.tensor([masked], dtype=torch.float64)])
    return single[states].prod(dim=1)
