"""States that are symbols in disguise: K values that an entry may have, and what is known of them.

A tractable model (:mod:`anydiff.inverse.tractable`) speaks of symbols, a diffusion model of numbers; here is what
stands between them: the likelihood of each symbol given a noised entry, and an exact denoiser of a law of symbols.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath, per_row
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec


@runtime_checkable
class TractableModel(Protocol):
    """A law of n symbols whose marginals under soft evidence are exact: trees, hidden Markov chains."""

    @property
    def size(self) -> int:
        """How many variables, n."""
        ...

    @property
    def symbols(self) -> int:
        """How many symbols, K."""
        ...

    def marginals(self, evidence: Tensor) -> Tensor:
        """p(x_i | w), float64 ``[B, n, K]``, under soft evidence ``[B, n, K]``."""
        ...


@runtime_checkable
class TellsSymbols(Protocol):
    """A denoiser that knows the law of each entry's symbol, and not its mean alone."""

    def symbol_law(self, x: Tensor, t: float | Tensor) -> Tensor:
        """p(symbol_i | x_t), float64 ``[B, n, K]``."""
        ...


def likelihood(x: Tensor, values: Tensor, factor: Tensor | float, std: Tensor | float) -> Tensor:
    """N(x_i; factor v_k, std²) for each symbol, scaled to sum to 1: float64 ``[B, n, K]`` of states ``[B, n]``.

    ``factor`` and ``std`` are numbers or broadcast to ``[B, n]``.
    """
    factor, std = (torch.as_tensor(each, dtype=torch.float64)[..., None] for each in (factor, std))
    off = (x.double()[..., None] - factor * values).square()
    off = off - off.amin(-1, keepdim=True)  # without noise the nearest symbol is the one
    return torch.softmax(-off / (2 * std.square().clamp_min(1e-300)), -1)


def checked_values(values: Tensor | Sequence[float], model: TractableModel) -> Tensor:
    """The value of each symbol, float64 ``[K]``.

    Raises:
        AnydiffError: another number of them than the model has symbols, or two are alike.
    """
    found = torch.as_tensor(values, dtype=torch.float64)
    if tuple(found.shape) != (model.symbols,) or not bool(found.isfinite().all()):
        raise AnydiffError(
            f"values have shape {tuple(found.shape)}, but the model has {model.symbols} symbols; give one finite "
            "number for each."
        )
    if len(set(found.tolist())) < len(found):
        raise AnydiffError("two symbols have the same value, so no state tells them apart; give each its own.")
    return found


class SymbolOracle(Denoiser):
    """E[x_0 | x_t] of a law of symbols, each of which stands for a number.

    Args:
        path: the path.
        model: the law of the symbols, exact marginals under soft evidence.
        values: the number of each symbol ``[K]``.
        shape: of a state, of as many entries as the model has variables; by default ``[n]``.
        window: an entry is predicted from those at most so far away in the order of the variables; None: from all.

    Raises:
        AnydiffError: values or shape do not fit the model.
    """

    path: GaussianPath

    def __init__(
        self, path: GaussianPath, model: TractableModel, values: Tensor | Sequence[float],
        shape: Sequence[int] | None = None, window: int | None = None,
    ) -> None:  # fmt: skip
        self.path, self.model, self.window = path, model, window
        self.values = checked_values(values, model)
        whole = (model.size,) if shape is None else tuple(shape)
        if math.prod(whole) != model.size:
            raise AnydiffError(f"shape is {whole}, but the model has {model.size} variables; give as many entries.")
        self.spec = StateSpec.single(whole)
        self.sigma_data = float(self.values.std(correction=0))

    def symbol_law(self, x: Tensor, t: float | Tensor) -> Tensor:
        """p(symbol_i | x_t), float64 ``[B, n, K]``; with a window, given the entries in it alone."""
        flat = x.flatten(1)
        level = [per_row(torch.as_tensor(each, dtype=torch.float64), flat) for each in _levels(self.path, t)]
        seen = likelihood(flat, self.values, *level)
        if self.window is None:
            return self.model.marginals(seen)
        places = torch.arange(self.model.size)
        near = (places[:, None] - places).abs() <= self.window
        each = torch.where(near[:, :, None], seen[:, None], 1.0).flatten(0, 1)
        found = self.model.marginals(each).reshape(len(x), self.model.size, self.model.size, -1)
        return found[:, places, places]

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t]; see the class."""
        return (self.symbol_law(x, t) @ self.values).to(x).reshape(x.shape)


def _levels(path: GaussianPath, t: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    return path.alpha(t), path.sigma(t)
