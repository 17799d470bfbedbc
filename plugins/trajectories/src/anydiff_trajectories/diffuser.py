"""Diffuser and Decision Diffuser: plans by sampling, guided by a value, by a return, or by nothing.

Janner et al., "Planning with diffusion for flexible behavior synthesis", ICML 2022 (arXiv:2205.09991): a joint model of
actions and observations with start and goal in place; a value J(x_t, t) of noisy plans guides the sampler, and the best
of several candidates is kept. Ajay et al., "Is conditional generative modeling all you need for decision-making?", ICLR
2023 (arXiv:2211.15657): observations alone, given the return by classifier-free guidance at low temperature, and
actions by inverse dynamics. Both are the one class here; which it is depends on the network's heads and the guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.wrappers import Wrapper
from anydiff.errors import AnydiffError, natural_number
from anydiff.guidance import ClassifierFree, ScoreGuidance
from anydiff.pipeline import Pipeline
from anydiff.recipes import build_guidance
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff_trajectories.codec import TrajectoryCodec
from anydiff_trajectories.networks import Planner


def planner_of(pipeline: Pipeline) -> Planner:
    """The pipeline's network, if it is one that plans.

    Raises:
        AnydiffError: it is another network.
    """
    network = pipeline.denoiser.network
    if not isinstance(network, Planner) or not isinstance(pipeline.domain, TrajectoryCodec):
        raise AnydiffError(
            f"recipe {pipeline.recipe.name!r} has the network {pipeline.recipe.network.name!r}, but planning needs "
            "'trajectories/planner'."
        )
    return network


def value_guidance(pipeline: Pipeline, scale: float = 0.1, stop: float = 0.05) -> ScoreGuidance:
    """∇ log p ← ∇ log p + scale ∇ J(x_t, λ_t), with the network's value head; none at times up to ``stop``.

    With J = log E[exp R | x_t] and scale 1 the plans follow p(x) exp R(x); Diffuser's J is the mean of R, which is that
    to first order. (The reference code shifts x by scale · Var_t · ∇J before the posterior mean, with Var_t the
    variance of the ancestral step; the shift of the mean that results here is the same to first order in the step.)

    Args:
        pipeline: trained with the head ``value``.
        scale: in units of the scaled return (the domain's ``returns_scale``).
        stop: times up to it are not guided (``t_stopgrad`` of Diffuser, as a time).

    Raises:
        AnydiffError: the network has no value head.
    """
    planner, path = _with_value(pipeline), pipeline.denoiser.gaussian_path

    def log_density(x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        log_snr = path.log_snr(torch.as_tensor(t, dtype=torch.float64)).to(x.dtype).expand(x.shape[0])
        return planner.value_of(x, log_snr, condition)

    return ScoreGuidance(log_density, lambda t: scale if t > stop else 0.0, at="state")


def plan_values(pipeline: Pipeline, states: Tensor) -> Tensor:
    """J of finished plans ``[B, horizon, width]``: the value head at the least noise, ``[B]``."""
    planner, path = _with_value(pipeline), pipeline.denoiser.gaussian_path
    log_snr = torch.full((len(states),), path.log_snr(path.t_end), dtype=states.dtype)
    with torch.no_grad():
        return planner.value_of(states, log_snr, UNCONDITIONAL)


def _with_value(pipeline: Pipeline) -> Planner:
    planner = planner_of(pipeline)
    if planner.value is None:
        raise AnydiffError(f"recipe {pipeline.recipe.name!r} has no value head; train one with network.options.heads.")
    return planner


class DiffusionPlanner:
    """Plans by sampling from noise with any solver.

    Args:
        pipeline: the model.
        candidates: plans per decision, of which the one with the greatest value is kept (needs a value head if more
            than one).
        value_scale: strength of the value guidance; 0 for none.
        value_stop: see :func:`value_guidance`.
        temperature: factor on every noise draw (0.5 in Decision Diffuser).
        guidance: beside the value's; None for the recipe's own.
        options: of :meth:`Pipeline.sample`: ``nfe``, ``solver``, ``grid``, ...
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        candidates: int = 1,
        value_scale: float = 0.0,
        value_stop: float = 0.05,
        temperature: float = 1.0,
        guidance: float | Wrapper | list[Wrapper] | None = None,
        **options: Any,
    ) -> None:
        self.pipeline = pipeline
        self.network = planner_of(pipeline)
        self.candidates = natural_number("candidates", candidates)
        if self.candidates > 1 and self.network.value is None:
            raise AnydiffError(f"candidates is {candidates}, but the network has no value head to choose by; give 1.")
        layers = build_guidance(pipeline.recipe.sampling.guidance if guidance is None else guidance)
        if value_scale:
            layers = [*layers, value_guidance(pipeline, value_scale, value_stop)]
        self.options: dict[str, Any] = {"guidance": layers, "temperature": temperature, **options}

    def plan(self, condition: Conditioning, indices: Sequence[int], seed: int, history: Tensor | None = None) -> Tensor:
        """Plans ``[B, horizon, width]``, one per row of ``condition``.

        Args:
            condition: normalised ``start``, ``goal``, ``returns``, as the domain has them.
            indices: a number per row that keys its randomness; candidates take the numbers from index * candidates on.
            seed: whole number.
            history: not used here.
        """
        return self.best(self._sample(condition, indices, seed))

    def _sample(self, condition: Conditioning, indices: Sequence[int], seed: int) -> Tensor:
        repeated, keys = self.candidate_rows(condition, indices)
        return self.pipeline.sample_set(keys, seed=seed, condition=repeated, **self.options_for(condition)).states

    def options_for(self, condition: Conditioning) -> dict[str, Any]:
        """The sampler's options; guidance by a condition that is not given (no return asked for) is left out."""
        layers = [
            layer
            for layer in self.options["guidance"]
            if not isinstance(layer, ClassifierFree) or all(name in condition.given for name in layer.names or ())
        ]
        return {**self.options, "guidance": layers}

    def candidate_rows(self, condition: Conditioning, indices: Sequence[int]) -> tuple[Conditioning, list[int]]:
        """Conditions and sample numbers of all candidates, those of one decision side by side."""
        count = self.candidates
        return condition.repeat(count), [index * count + candidate for index in indices for candidate in range(count)]

    def best(self, states: Tensor) -> Tensor:
        """The candidate of greatest value of each decision."""
        if self.candidates == 1:
            return states
        values = plan_values(self.pipeline, states).reshape(-1, self.candidates)
        chosen = values.argmax(dim=1) + torch.arange(len(values)) * self.candidates
        return states[chosen]
