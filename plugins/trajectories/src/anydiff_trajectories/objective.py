"""The loss of planners: denoising with known entries left out, plus the losses of the heads."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, NetworkDenoiser, batch_times
from anydiff.errors import AnydiffError
from anydiff.objectives import Denoising, element_mean
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff_trajectories.networks import Planner


class Planning(Denoising):
    """L = L_denoising + w (L_inverse + L_rollout + L_value), each where the network has the head.

    - L_denoising is the mean over the entries that are neither known (start, goal) nor hidden; the first action has
      the weight ``first_action_weight`` (10 in Diffuser).
    - L_inverse = mean ||f(o_k, o_{k+1}) - a_k||² on clean rows (Decision Diffuser).
    - L_rollout = mean ||g(o_1..o_k, R_1..R_k) - (o_{k+1}, R_{k+1})||² on clean rows (Trajectory Diffuser).
    - L_value = (J(x_t, λ_t) - R)² at the same noisy state (Diffuser), R the condition ``returns``.

    Rows whose ``loss_weight`` ``[B, horizon, 1]`` is 0 (padding behind a short episode) count nowhere: a transition
    counts where both of its rows do.

    Args:
        weighting: as for :class:`~anydiff.objectives.Denoising`.
        head_weight: w.
        first_action_weight: weight of a_0 in the denoising loss.
        options: of :class:`~anydiff.objectives.Denoising`.

    Raises:
        AnydiffError: a network that is no :class:`~anydiff_trajectories.networks.Planner`, or a value head without
            the condition ``returns``.
    """

    def __init__(
        self,
        weighting: str = "data",
        head_weight: float = 1.0,
        first_action_weight: float = 1.0,
        times: str | None = None,
        gamma: float = 5.0,
        times_mean: float | None = None,
        times_std: float | None = None,
    ) -> None:
        super().__init__(weighting, times, gamma, times_mean, times_std)
        if head_weight < 0 or first_action_weight < 0:
            raise AnydiffError(
                f"head_weight is {head_weight} and first_action_weight {first_action_weight}, but neither may be "
                "negative."
            )
        self.head_weight, self.first_action_weight = float(head_weight), float(first_action_weight)

    def __call__(
        self, denoiser: Denoiser, clean: Tensor, noise: Tensor, uniform: Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """Loss per example ``[B]``; arguments as for :class:`~anydiff.objectives.base.Objective`."""
        planner = denoiser.network if isinstance(denoiser, NetworkDenoiser) else None
        if not isinstance(denoiser, NetworkDenoiser) or not isinstance(planner, Planner):
            raise AnydiffError("the objective 'trajectories/planning' trains the network 'trajectories/planner' alone.")
        _, known = planner.with_known(clean, condition)
        present = condition.loss_weight
        weight = (~known & planner.seen).to(clean.dtype)
        if present is not None:
            weight = weight * present
        if "action" in planner.layout and self.first_action_weight != 1.0:
            weight[:, 0, planner.layout["action"]] *= self.first_action_weight
        loss = super().__call__(denoiser, clean, noise, uniform, replace(condition, loss_weight=weight))
        heads = self._heads(denoiser, planner, clean, noise, uniform, present, condition)
        return loss + self.head_weight * heads

    def _heads(
        self, denoiser: NetworkDenoiser, planner: Planner, clean: Tensor, noise: Tensor, uniform: Tensor,
        present: Tensor | None, condition: Conditioning,
    ) -> Tensor:  # fmt: skip
        pairs = None if present is None else present[:, :-1] * present[:, 1:]
        total = clean.new_zeros(clean.shape[0])
        observation = clean[..., planner.layout["observation"]]
        if planner.inverse is not None:
            predicted = planner.inverse(observation[:, :-1], observation[:, 1:])
            total = total + element_mean((predicted - clean[:, :-1, planner.layout["action"]]).square(), pairs)
        if planner.rollout is not None:
            rows = observation
            if planner.rollout.returns:
                rows = torch.cat([observation, clean[..., planner.layout["return"]]], dim=-1)
            predicted = planner.rollout(rows[:, :-1], condition.given.get("goal"))
            total = total + element_mean((predicted - rows[:, 1:]).square(), pairs)
        if planner.value is not None:
            total = total + self._value(denoiser, planner, clean, noise, uniform, condition)
        return total

    def _value(
        self, denoiser: NetworkDenoiser, planner: Planner, clean: Tensor, noise: Tensor, uniform: Tensor,
        condition: Conditioning,
    ) -> Tensor:  # fmt: skip
        if "returns" not in condition.given:
            raise AnydiffError("the value head learns the condition 'returns', which this data does not give.")
        path = denoiser.path
        t = batch_times(self.times(path, uniform), clean)
        noisy = path.mix(t, x0=clean, noise=noise, **path.given(condition))
        predicted = planner.value_of(noisy, path.log_snr(t).to(noisy), condition)
        error: Tensor = (predicted - condition.given["returns"][:, 0]).square()
        return error
