"""Unmasking in equal shares: each call reveals as many masks as any other, in an order of one's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.categorical import CategoricalPath
from anydiff.solvers.categorical import CategoricalSolver
from anydiff.solvers.transitions import ORDERS


@dataclass(frozen=True)
class Unmasking(CategoricalSolver):
    """Of k masks, k over the steps that are left are revealed; each revealed class is drawn from p(x_0 | x).

    With one mask per call it is exact: any-order autoregression, and the first-hitting sampler (Zheng et al. 2024,
    arXiv:2409.02908) with a network that is not told the time. Fewer calls err less than by ancestral steps, which
    reveal random numbers of masks.

    Attributes:
        places: ``random``, ``left-to-right``, ``confident`` (the greatest probability first, as in MaskGIT; another law
            than the model's), or the places of the flattened state in order.

    Raises:
        UnknownNameError: no such order of places.
        AnydiffError: places that are no permutation.
    """

    places: str | tuple[int, ...] = "random"
    kind: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if isinstance(self.places, str):
            if self.places not in ORDERS:
                raise UnknownNameError("places", self.places, ORDERS)
            return
        if not isinstance(self.places, Sequence) or sorted(self.places) != list(range(len(self.places))):
            raise AnydiffError(
                f"places is {self.places!r}, but must be a name ({', '.join(ORDERS)}) or each place once, from 0."
            )
        object.__setattr__(self, "places", tuple(self.places))

    @property
    def ordered(self) -> bool:
        """Whether the order is random."""
        return self.places == "random"

    def travels(self, path: CategoricalPath) -> bool:
        """Paths on which nothing but masks replaces a class."""
        return path.share == 1

    def transition(self, path: CategoricalPath, t: float, s: float, left: int) -> tuple[str, dict[str, Any]]:
        """See :meth:`CategoricalSolver.transition`."""
        order = self.places if isinstance(self.places, str) else list(self.places)
        return "unmask", {"classes": path.bound, "steps_left": left, "order": order}
