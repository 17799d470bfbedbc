"""An exact denoiser of a Gaussian sequence, drawn turn by turn: what the outer loop is tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.oracles.gaussian import GaussianOracle
from anydiff.denoisers.past import Past, copies_of
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.states import UNCONDITIONAL, Conditioning, Order, StateSpec


class GaussianSequence(Denoiser):
    """x_0 ~ N(0, C) over the positions of an order; of one turn E[x_0 | x_t, all that is finished], exactly.

    Args:
        path: the path.
        covariance: C ``[d, d]`` of the flattened positions ``[L, *element]``.
        order: shared by all samples.

    Raises:
        AnydiffError: a covariance of another size, or an order that differs between samples.
    """

    path: GaussianPath

    def __init__(self, path: GaussianPath, covariance: Tensor, order: Order) -> None:
        self.path, self._order = path, order
        self.covariance = covariance.to(torch.float64)
        self.element = int(torch.Size(order.cut.element).numel())
        size = order.length * self.element
        if tuple(covariance.shape) != (size, size) or not order.shared:
            raise AnydiffError(
                f"the covariance has shape {tuple(covariance.shape)}, but an order of {order.length} positions that "
                f"all samples share needs {(size, size)}."
            )
        self.spec = StateSpec.single((order.length, *order.cut.element))

    @property
    def order(self) -> Order:
        """As given."""
        return self._order

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t] of whole sequences, as one block."""
        mean = torch.zeros(x.shape[1:], dtype=torch.float64)
        return GaussianOracle(self.path, mean, self.covariance).native(x, t)

    def with_past(self, past: Past, positions: Tensor, turn: int) -> Denoiser:
        """Of the positions ``[m]`` given what is finished, whatever its place; see :meth:`Denoiser.with_past`."""
        return _Given(self, past, positions)

    def conditional(self, targets: Sequence[int], seen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(A, C) with x_targets | x_seen ~ N(A x_seen, C), flattened."""
        here, there = (self._entries(places) for places in (targets, seen))
        own = self.covariance[here][:, here]
        if not seen:
            return own.new_zeros(len(here), 0), own
        cross = self.covariance[here][:, there]
        weights = torch.linalg.solve(self.covariance[there][:, there], cross.T).T
        return weights, own - weights @ cross.T

    def _entries(self, places: Sequence[int]) -> list[int]:
        return [place * self.element + entry for place in places for entry in range(self.element)]


class _Given(Denoiser):
    """The positions of one turn, given the past."""

    def __init__(self, whole: GaussianSequence, past: Past, positions: Tensor) -> None:
        self.path, self.whole, self.past = whole.path, whole, past
        seen = [place for each in past.written for place in each.positions.tolist()]
        self.weights, covariance = whole.conditional(positions.tolist(), seen)
        shape = (len(positions), *whole.order.cut.element)
        self.spec = StateSpec.single(shape)
        self.oracle = GaussianOracle(whole.path, torch.zeros(shape, dtype=torch.float64), covariance)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        copies = copies_of(len(x), self.past)
        mean = torch.zeros(self.past.rows, x[0].numel(), dtype=torch.float64)
        if self.past.written:
            seen = torch.cat([each.values.flatten(1) for each in self.past.written], dim=1).double()
            mean = seen @ self.weights.T
        return self.oracle.posterior_mean(x, t, mean.repeat(copies, 1).to(x).reshape(x.shape))
