"""Trajectory Diffuser: an autoregressive model makes a feasible plan, a few steps of diffusion optimise it.

Huang et al., "Diffusion models as optimizers for efficient planning in offline RL", ECCV 2024 (arXiv:2407.16142). The
autoregressive plan is put at a low noise level τ of the diffusion, and the reverse process runs from there: few steps,
and the mode of the plan is settled before they begin. The paper places the plan in the chain, its code uses it as it is
without noise; both are offered (``renoise``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number
from anydiff.paths import GaussianPath
from anydiff.pipeline import Pipeline
from anydiff.recipes import build_solver
from anydiff.solvers import Plan, Solver, compile_plan
from anydiff.states import Conditioning, standard_normal
from anydiff_trajectories.diffuser import DiffusionPlanner, planner_of


def entry_plan(path: GaussianPath, level: float, nfe: int, solver: str | Solver = "ddim", **options: Any) -> Plan:
    """The plan of ``solver`` that enters at time ``level`` and spends at most ``nfe`` calls, steps equal in log-SNR.

    Raises:
        AnydiffError: the level lies outside the path, or the budget is too small.
    """
    if not path.t_end < level <= path.t_start:
        raise AnydiffError(f"level is {level}, but must lie above {path.t_end:g} and up to {path.t_start:g}.")
    made = solver
    if isinstance(made, str):
        from anydiff.registry import registry

        made = registry().build("solvers", made, **options)
    steps = made.steps(natural_number("nfe", nfe))
    if steps < 1:
        raise AnydiffError(f"nfe is {nfe}, which buys no step of {made!r}; raise it.")
    log_snr = np.linspace(path.log_snr(level), path.log_snr(path.t_end), steps + 1)
    inner = path.time(torch.from_numpy(log_snr)).tolist()[1:-1]
    return compile_plan(made, path, nfe, [level, *inner, path.t_end])


@dataclass(frozen=True)
class Entry:
    """Where and how given states enter the diffusion.

    Attributes:
        level: the time of entry; the path's ``t_start`` forgets the states, ``t_end`` hardly changes them.
        nfe: network calls; 0 returns the states unchanged.
        renoise: enter at α x + σ z (the forward process); else at x itself, as the reference code does.
        solver: a registered name or a solver; the recipe's by default.
    """

    level: float
    nfe: int
    renoise: bool = True
    solver: str | Solver | None = None


def refine(
    pipeline: Pipeline,
    states: Tensor,
    entry: Entry,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    condition: Conditioning | None = None,
    **options: Any,
) -> Tensor:
    """Given clean ``states [B, *shape]`` put at the time of entry and denoised from there: ``[B, *shape]``.

    Args:
        pipeline: the model.
        states: where to begin.
        entry: the time of entry, the budget and the solver.
        seed: of the noise.
        indices: number of each row, keys its noise.
        condition: as for :meth:`Pipeline.sample`.
        options: of :meth:`Pipeline.sample`.
    """
    if entry.nfe == 0:
        return states.clone()
    path = pipeline.denoiser.gaussian_path
    keys = list(range(len(states)) if indices is None else indices)
    chosen: str | Solver = build_solver(pipeline.recipe.sampling.solver) if entry.solver is None else entry.solver
    plan = entry_plan(path, entry.level, entry.nfe, chosen)
    start = states
    if entry.renoise:
        noise = torch.from_numpy(standard_normal(seed, keys, 0, "trajectories/renoise", tuple(states.shape[1:])))
        start = path.alpha(entry.level) * states + path.sigma(entry.level) * noise.to(states.dtype)
    return pipeline.sample_set(keys, seed=seed, solver=plan, start=start, condition=condition, **options).states


class TrajectoryPlanner(DiffusionPlanner):
    """Plans of the autoregressive head, refined from ``level`` with ``nfe`` calls.

    Args:
        pipeline: trained with the head ``rollout``.
        level: time of entry.
        nfe: network calls; 0 leaves the autoregressive plan.
        renoise: see :class:`Entry`.
        solver: see :class:`Entry`.
        options: of :class:`~anydiff_trajectories.diffuser.DiffusionPlanner`.

    Raises:
        AnydiffError: the network has no rollout head.
    """

    def __init__(
        self, pipeline: Pipeline, *, level: float = 0.15, nfe: int = 2, renoise: bool = True,
        solver: str | Solver | None = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(pipeline, **options)
        if self.network.rollout is None:
            raise AnydiffError(
                f"recipe {pipeline.recipe.name!r} has no rollout head; train one with network.options.heads."
            )
        self.entry = Entry(level, nfe, renoise, solver)

    def plan(self, condition: Conditioning, indices: Sequence[int], seed: int, history: Tensor | None = None) -> Tensor:
        """Plans ``[B, horizon, width]``; ``history [B, h, d_o (+1)]`` are the normalised rows up to now."""
        repeated, keys = self.candidate_rows(condition, indices)
        first = self.autoregressive(
            repeated, None if history is None else history.repeat_interleave(self.candidates, 0)
        )
        states = refine(
            self.pipeline, first, self.entry, seed=seed, indices=keys, condition=repeated,
            **self.options_for(condition),
        )  # fmt: skip
        return self.best(states)

    def autoregressive(self, condition: Conditioning, history: Tensor | None = None) -> Tensor:
        """The autoregressive plan ``[B, horizon, width]`` from the last row of the history on; actions by inverse.

        Raises:
            AnydiffError: neither a history nor the condition ``start``.
        """
        network = planner_of(self.pipeline)
        rollout, layout, horizon = network.rollout, network.layout, self.pipeline.domain.spec.shape[0]
        assert rollout is not None
        if history is None:
            if "start" not in condition.given:
                raise AnydiffError("an autoregressive plan needs the condition start, or a history; give one.")
            history = condition.given["start"][:, None].float()
            if rollout.returns:
                returns = condition.given.get("returns", history.new_zeros(len(history), 1))
                history = torch.cat([history, returns[:, None]], dim=-1)
        rows = rollout.generate(history, horizon - 1, condition.given.get("goal"))[:, -horizon:]
        states = rows.new_zeros(len(rows), horizon, layout.width)
        size = layout.size("observation")
        states[..., layout["observation"]] = rows[..., :size]
        if "return" in layout and rollout.returns:
            states[..., layout["return"]] = rows[..., size:]
        if network.inverse is not None:
            with torch.no_grad():
                actions = network.inverse(rows[:, :-1, :size], rows[:, 1:, :size])
            states[:, :-1, layout["action"]] = actions
        return states
