"""The loss of planners: denoising with known entries left out, and the losses of the heads, each a term of its own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anydiff.denoisers import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives import Call, Denoising, Sum, Term, Weighted, element_mean, network_head, network_heads
from anydiff_trajectories.networks import HEADS

_FIX = "train the network 'trajectories/planner'"


class PlanDenoising(Denoising):
    """Denoising over the entries that are neither known (start, goal) nor hidden, nor of loss weight 0.

    Args:
        first_action_weight: weight of a_0 (10 in Diffuser).
        options: of :class:`~anydiff.objectives.Denoising`.
    """

    def __init__(
        self,
        weighting: str = "data",
        first_action_weight: float = 1.0,
        times: str | None = None,
        gamma: float = 5.0,
        times_mean: float | None = None,
        times_std: float | None = None,
    ) -> None:
        super().__init__(weighting, times, gamma, times_mean, times_std)
        self.first_action_weight = float(first_action_weight)

    def loss(self, call: Call) -> Tensor:
        """Loss per example ``[B]``."""
        entries = call.head("entries", "the objective 'trajectories/planning'", _FIX)
        weight = entries(call.clean, call.condition, self.first_action_weight)
        present = call.condition.loss_weight
        return self.squared_error(call, weight if present is None else weight * present)


class HeadError(Term):
    """The error of one head of a planner: mean squared, and of the value at the same noisy state.

    - ``inverse``: mean ||f(o_k, o_{k+1}) - a_k||² on clean rows (Decision Diffuser).
    - ``rollout``: mean ||g(o_1..o_k, R_1..R_k) - (o_{k+1}, R_{k+1})||² on clean rows (Trajectory Diffuser).
    - ``value``: (J(x_t, λ_t) - R)² (Diffuser), R the condition ``returns``.

    Rows whose ``loss_weight`` ``[B, horizon, 1]`` is 0 (padding behind a short episode) count nowhere: a transition
    counts where both of its rows do.

    Args:
        head: its name.

    Raises:
        UnknownNameError: no head of a planner is called so.
        AnydiffError: when called, a network without this head, or a value head without the condition ``returns``.
    """

    def __init__(self, head: str = "inverse") -> None:
        if head not in HEADS:
            raise UnknownNameError("head", head, HEADS)
        self.name = head

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a network without this head."""
        network_head(denoiser, self.name, f"the term of the head {self.name!r}", _FIX)

    def loss(self, call: Call) -> Tensor:
        """Loss per example ``[B]``."""
        head = call.head(self.name, f"the term of the head {self.name!r}", _FIX)
        if self.name == "value":
            if "returns" not in call.condition.given:
                raise AnydiffError("the value head learns the condition 'returns', which this data does not give.")
            predicted = head(call.x, call.gaussian_path.log_snr(call.t).to(call.x), call.condition)
            error: Tensor = (predicted - call.condition.given["returns"][:, 0]).square()
            return error
        present = call.condition.loss_weight
        pairs = None if present is None else present[:, :-1] * present[:, 1:]
        predicted, target = head(call.clean, call.condition)
        return element_mean((predicted - target).square(), pairs)


class Planning(Sum):
    """L = L_denoising + w (L_inverse + L_rollout + L_value), each where the network has the head.

    The terms are :class:`PlanDenoising` and a :class:`HeadError` per head; each stands in the log under its name.

    Args:
        weighting: as for :class:`~anydiff.objectives.Denoising`.
        head_weight: w.
        first_action_weight: weight of a_0 in the denoising loss.
        options: of :class:`~anydiff.objectives.Denoising`.

    Raises:
        AnydiffError: when called, a network that is no :class:`~anydiff_trajectories.networks.Planner`, or a value head
            without the condition ``returns``.
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
        if head_weight < 0 or first_action_weight < 0:
            raise AnydiffError(
                f"head_weight is {head_weight} and first_action_weight {first_action_weight}, but neither may be "
                "negative."
            )
        denoising = PlanDenoising(weighting, first_action_weight, times, gamma, times_mean, times_std)
        parts = {"denoising": Weighted(denoising, 1.0)}
        if head_weight > 0:
            parts.update({name: Weighted(HeadError(name), float(head_weight)) for name in HEADS})
        super().__init__(parts)

    def active(self, denoiser: Denoiser) -> Mapping[str, Weighted]:
        """Denoising, and the heads that the network has."""
        heads = network_heads(denoiser)
        return {name: part for name, part in self.parts.items() if name == "denoising" or name in heads}
