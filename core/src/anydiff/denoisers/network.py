"""A network with its parametrisation: the trained denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from anydiff.denoisers.base import Denoiser, batch_times
from anydiff.denoisers.given_past import GivenPast
from anydiff.denoisers.kinds import PredictionKind, check_kinds
from anydiff.denoisers.past import Past
from anydiff.errors import AnydiffError
from anydiff.networks.around import AroundNetwork
from anydiff.paths.base import linear, per_row
from anydiff.paths.path import Path
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec


class NetworkDenoiser(AroundNetwork, Denoiser):
    """E[x_0 | x_t] from a network that predicts one kind or several: data, noise, velocity, score, flow, …

    The network sees c_in x_t with c_in of the path (unit scale of its input) and is told what the path says
    (:meth:`~anydiff.paths.Path.told`): the log-SNR λ_t in place of a time, so that it outlives path and grid.
    With ``parametrization="score"`` the network predicts σ ∇log p_t, which has unit scale (Song et al. 2021).

    Args:
        network: ``forward(x [B, *shape], told [B], condition) -> [B, *shape]``, or a mapping of such predictions by
            kind, whose names its attribute ``predicts`` lists (see :mod:`anydiff.networks.heads`); they may be more
            than the kinds of ``parametrization``. It may have a method ``encode_condition(condition) -> condition``,
            see :meth:`Denoiser.encode_condition`; ``forward`` then takes both forms, and what the method does not know
            it hands on. It may have a method ``seen_clean(condition) -> Known | None``, see
            :meth:`Denoiser.seen_clean`.
        path: the path it was or will be trained on.
        parametrization: what the network's output means: a kind, or a list of kinds.
        sigma_data: standard deviation of the data.
        spec: the leaves of the state; where some are masked, training leaves absent entries out.

    Raises:
        UnknownNameError: no such kind of prediction.
        AnydiffError: a kind that the path does not license, or that the network has no head for.
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        parametrization: PredictionKind | Sequence[PredictionKind] = "noise",
        sigma_data: float = 1.0,
        spec: StateSpec | None = None,
    ) -> None:
        super().__init__()
        kinds = (parametrization,) if isinstance(parametrization, str) else tuple(parametrization)
        check_kinds(path, kinds)
        predicts: tuple[str, ...] = tuple(getattr(network, "predicts", ()))
        for kind in kinds if predicts or len(kinds) > 1 else ():
            if kind not in predicts:
                raise AnydiffError(
                    f"parametrization names {kind!r}, but the network {type(network).__name__} predicts "
                    f"{', '.join(predicts) or 'one kind'}; give it an exit of that name (network: heads)."
                )
        self.network = network
        self.path = path
        self.native_kind = kinds[0]
        self._kinds = kinds
        self.sigma_data = sigma_data
        self.spec = spec

    @property
    def time_free(self) -> bool:
        """Whether the network says that it does not read the time (``reads_time = False``)."""
        return not getattr(self.network, "reads_time", True)

    @property
    def causal(self) -> bool:
        """Whether the network says so (``causal = True``)."""
        return bool(getattr(self.network, "causal", False))

    @property
    def native_kinds(self) -> tuple[PredictionKind, ...]:
        """The kinds of ``parametrization``."""
        return self._kinds

    def forward(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t] ``[B, *shape]``."""
        return self.predict(x, t, "data", condition)

    # nn.Module's __call__ runs hooks and then forward, which is what a trained denoiser needs.
    __call__ = nn.Module.__call__

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The network's own output at (x, t), of kind ``native_kind``."""
        output = self.outputs(x, t, condition)
        return self._in_units(output[self.native_kind] if isinstance(output, Mapping) else output, x, t)

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        """The predictions of all native kinds from one network call; arguments as for :meth:`native`."""
        return self.in_units(self.outputs(x, t, condition), x, t)

    def exits(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> dict[str, Tensor]:
        """The native predictions, and every other head of the network as the network gives it; one call."""
        output = self.outputs(x, t, condition)
        made: dict[str, Tensor] = dict(output) if isinstance(output, Mapping) else {}
        made.update({str(kind): value for kind, value in self.in_units(output, x, t).items()})
        return made

    def outputs(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> Tensor | Mapping[str, Tensor]:
        """What the network says, as it says it: one prediction, or all its heads by name."""
        times = t if isinstance(t, Tensor) and t.ndim else batch_times(t, x[:1])
        seen = self.path.seen(x, times, self.sigma_data)
        if condition.context is not None and x.is_floating_point():  # clean, so seen at unit deviation
            condition = replace(condition, context=condition.context / self.sigma_data)
        output: Tensor | Mapping[str, Tensor] = self.network(seen, self.told(x, times), condition)
        return output

    def network_input(self, x: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is called with for states ``[B, *shape]`` at times ``[B]`` (or ``[1]``).

        The scaled state, what it is told of the time (``[B]`` or ``[B, told_size]``, float32), and c_in as the path
        gives it (float64).
        """
        scale = linear(self.path, "the scale of a network's input").input_scale(times, self.sigma_data)
        return per_row(scale, x) * x, self.told(x, times), scale

    def with_past(self, past: Past, positions: Tensor, turn: int) -> Denoiser:
        """The positions of one turn given what is finished; see :meth:`Denoiser.with_past`."""
        if self.order is None:
            return super().with_past(past, positions, turn)
        return GivenPast(self, past, positions, turn)

    def told(self, x: Tensor, times: Tensor) -> Tensor:
        """What the network is told of times ``[B]``, ``[1]`` or ``[B, n]`` of states ``[B, *shape]``, float32."""
        told = self.path.told(times).to(dtype=torch.float32, device=x.device)
        return told.expand(x.shape[0], *told.shape[1:])

    def in_units(
        self, output: Tensor | Mapping[str, Tensor], x: Tensor, t: float | Tensor
    ) -> dict[PredictionKind, Tensor]:
        """What the network said at (x, t), by its kinds and in their units."""
        if not isinstance(output, Mapping):
            return {self.native_kind: self._in_units(output, x, t)}
        return {kind: self._in_units(output[kind], x, t, kind) for kind in self._kinds}

    def _in_units(self, output: Tensor, x: Tensor, t: float | Tensor, kind: str | None = None) -> Tensor:
        output = output.to(x.dtype) if x.is_floating_point() else output
        if (kind or self.native_kind) != "score":
            return output
        times = t if isinstance(t, Tensor) and t.ndim else batch_times(t, x[:1])
        noise = linear(self.path, "a score").coefficients(times)[self.path.named("noise")[0]]
        return output / per_row(noise, x)
