"""Predictions under several conditions, added up with a weight of its own at every entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError
from anydiff.guidance.base import LinearGuidance
from anydiff.states import Conditioning


@dataclass(frozen=True, eq=False)
class Term:
    """A condition and what its prediction counts for.

    Attributes:
        weight: a number, or one per entry of a sample ``[*shape]``.
        given: conditions in place of those of the sample, one row ``[1, ...]`` or one per sample; None for no change.
        hidden: the prediction is made without any condition.
    """

    weight: float | Tensor
    given: Mapping[str, Tensor] | None = None
    hidden: bool = False


@dataclass(frozen=True, eq=False)
class Combined(LinearGuidance):
    """F = Σ_k w_k F(x_t; c_k), one network call of as many rows for each sample as there are terms.

    The weights of an entry add up to 1, so that the sum is the same in every kind of prediction.

    Args:
        terms: at least one.
    """

    terms: Sequence[Term]

    def __post_init__(self) -> None:
        if not self.terms:
            raise AnydiffError("terms is empty, but at least one prediction is needed.")
        total = torch.as_tensor(sum(torch.as_tensor(term.weight, dtype=torch.float64) for term in self.terms))
        if float((total - 1).abs().max()) > 1e-6:
            raise AnydiffError(
                f"the weights of an entry add up to {float(total.flatten()[0]):g}, but must to 1; correct one of them."
            )

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The weighted sum of the predictions."""
        asked = Conditioning.joined([self._told(term, condition, len(x)) for term in self.terms])
        times = torch.cat([t] * len(self.terms)) if isinstance(t, Tensor) and t.ndim else t
        found = denoiser.predict(torch.cat([x] * len(self.terms)), times, kind, asked).chunk(len(self.terms))
        weighted: list[Any] = [
            torch.as_tensor(term.weight).to(x) * each for term, each in zip(self.terms, found, strict=True)
        ]
        return sum(weighted[1:], weighted[0])  # type: ignore[no-any-return]

    @staticmethod
    def _told(term: Term, condition: Conditioning, rows: int) -> Conditioning:
        if term.given:
            wider = {name: value.expand(rows, *value.shape[1:]) for name, value in term.given.items()}
            condition = condition.with_given(**wider)
        names = list(condition.given)
        return condition.hidden(names, term.hidden)


def regional(region: Tensor, scale: float, negative: Mapping[str, Tensor], **outside: Mapping[str, Tensor]) -> Combined:
    """Classifier-free guidance that leads away from other conditions inside of a region than outside.

    u + scale (F(c) - u), with u = F(negative) inside, and u = F(negative) + F(suppressed) - F(diverse) outside: the
    guidance of cyclic one-way diffusion (Wang et al., ICLR 2024, arXiv 2306.08247).

    Args:
        region: which entries are inside, ``[*shape]``.
        scale: of the guidance.
        negative: what is led away from.
        outside: ``suppressed`` and ``diverse``, both or none.

    Raises:
        AnydiffError: one of the two alone, or a name that is none of them.
    """
    terms = [Term(scale), Term(1 - scale, negative)]
    if outside:
        if set(outside) != {"suppressed", "diverse"}:
            raise AnydiffError(f"outside names {sorted(outside)}, but must be suppressed and diverse, both or none.")
        there = (1 - scale) * (~region.bool()).double()
        terms += [Term(there, outside["suppressed"]), Term(-there, outside["diverse"])]
    return Combined(terms)
