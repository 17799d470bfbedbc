"""The positions of a model with an order, wrapped around data as a latent space is: domains and metrics see states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from anydiff.domains import Domain
from anydiff.pipeline.latent import Space
from anydiff.states import Conditioning, Cut, Known, Order, StateSpec, positions_spec


class Positions(Space):
    """States of a domain, or latents of it, cut into the positions of an order.

    Args:
        data: the spec of the states.
        order: of the network.
        inner: the space that is cut, where it is not the states themselves.

    Attributes:
        spec: of the positions.
    """

    def __init__(self, data: StateSpec, order: Order, inner: Space | None) -> None:
        self.order, self.inner = order, inner
        self._whole = data if inner is None else inner.spec
        self.spec = positions_spec(self._whole, order)

    @property
    def whole(self) -> StateSpec:
        """Of what the network is built for: states, or latents."""
        return self._whole

    @property
    def identity(self) -> str:
        """The cut, and the inner space's own."""
        return f"{self.order.cut!r}/{'' if self.inner is None else self.inner.identity}"

    def to_latent(self, states: Tensor) -> Tensor:
        """Positions ``[B, L, *element]`` of states ``[B, *shape]``, of the spec's type."""
        inner = states.cpu() if self.inner is None else self.inner.to_latent(states)
        return self.order.cut.split(inner).to(self.spec.dtype())

    def to_data(self, latents: Tensor) -> Tensor:
        """States ``[B, *shape]`` of positions."""
        whole = self.order.cut.join(latents.cpu())
        return whole if self.inner is None else self.inner.to_data(whole)

    def decoded(self, latents: Tensor) -> Tensor:
        """As :meth:`to_data`, differentiable."""
        whole = self.order.cut.join(latents)
        return whole if self.inner is None else self.inner.decoded(whole)

    def beside(self, states: Tensor) -> Mapping[str, Tensor]:
        """What the inner space gives beside."""
        return {} if self.inner is None else self.inner.beside(states)

    def known(self, known: Known) -> Known:
        """Known entries of states as those of positions, by way of the inner space."""
        cut, inner = self.order.cut, known if self.inner is None else self.inner.known(known)
        return Known(cut.split(inner.values), cut.split(inner.mask))

    def condition(self, condition: Conditioning) -> Conditioning:
        """With the weights of the loss and the sources cut as a state is."""
        cut = self.order.cut
        weight = condition.loss_weight
        if weight is not None:
            weight = cut.split(weight.expand(len(weight), *cut.shape))
        sources = {name: self._cut(cut, value) for name, value in condition.sources.items()}
        return replace(condition, loss_weight=weight, sources=sources)

    @staticmethod
    def _cut(cut: Cut, value: Tensor) -> Tensor:
        return cut.split(value) if tuple(value.shape[1:]) == cut.shape else value


def ordered(domain: Domain, order: Order | None, inner: Space | None) -> Space | None:
    """``inner``, or the domain's own states, cut into the positions of ``order``; as it is where there is no order."""
    return inner if order is None else Positions(domain.spec, order, inner)
