"""Objectives made of named, weighted terms on one shared network call; each stands in the log under its name.

A term is an objective that computes its loss from a :class:`~anydiff.objectives.call.Call` (``loss(call)``), so every
registered objective that does so can be one. :class:`Term` is the base of those that are no objective of their own.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.base import Objective, makes_its_own_call
from anydiff.objectives.call import Call
from anydiff.paths.path import Path
from anydiff.registry import registry

PROBES = (0.01, 0.25, 0.5, 0.75, 0.99)
"""Uniform numbers at which the laws of times of two terms are compared."""


class Term(Objective):
    """A loss per example that takes the times of the terms it stands beside: a regulariser, the loss of a head.

    A subclass gives :meth:`loss`. What it draws comes from ``call.draws``, parameters that it owns from
    :meth:`modules`. It is registered as an objective is, and alone it sees times that are uniform on the path.
    """

    leads = False

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1): uniform on the path."""
        return path.t_end + (path.t_start - path.t_end) * uniform.double()

    @abstractmethod
    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""


@dataclass(frozen=True)
class Weighted:
    """A term of a sum.

    Attributes:
        objective: gives the loss per example.
        weight: positive and finite.
        made_of: the registered name and the options that it was built from, where it was.

    Raises:
        AnydiffError: another weight, or an objective that makes a network call of its own.
    """

    objective: Objective
    weight: float
    made_of: tuple[str, Mapping[str, Any]] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        found = self.weight
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found < math.inf:
            raise AnydiffError(
                f"a term's weight is {found!r}, but must be a positive, finite number; leave a term of weight 0 out."
            )
        if not isinstance(self.objective, Objective):
            raise AnydiffError(f"a term is a {type(self.objective).__name__}; derive it from anydiff.objectives.Term.")
        if makes_its_own_call(self.objective):
            raise AnydiffError(
                f"the objective {type(self.objective).__name__} makes a network call of its own, so it cannot share "
                "that of other terms; give it loss(call) in place of __call__."
            )


class Sum(Objective):
    """Σ_i w_i L_i over named terms L_i, all on one network call, each logged as ``loss/network/NAME`` with its weight.

    In a recipe ``terms`` is a mapping from names to tables::

        objective:
          name: sum
          options:
            terms:
              denoising: {weight: 1.0}
              residual: {name: fokker-planck, weight: 0.1, options: {box: 3.5}}

    ``name`` is a registered objective, by default the term's own name. The first term that has a law of times says at
    which times examples are seen; another one with a law of its own must have the same.

    Args:
        terms: name -> table as above, or a :class:`Weighted`.

    Raises:
        UnknownNameError: no such objective, or no such key of a term.
        AnydiffError: no terms, none with a law of times, a term without weight, or the same one twice.
    """

    def __init__(self, terms: Mapping[str, Any]) -> None:
        if not isinstance(terms, Mapping) or not terms:
            raise AnydiffError(
                f"terms is {terms!r}, but must be a table with at least one term: NAME: {{weight: 1.0}}."
            )
        self.parts = {_checked_name(name): _weighted(name, value) for name, value in terms.items()}
        _no_twins(self.parts)
        leaders = [name for name, part in self.parts.items() if part.objective.leads]
        if not leaders:
            raise AnydiffError(
                f"none of the terms {', '.join(self.parts)} says at which times the network is trained; add one that "
                "does: denoising: {weight: 1.0}."
            )
        self.leader = leaders[0]
        self._followers = leaders[1:]
        self._agreed: Path | None = None

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1), as the first term that has a law says."""
        leader = self.parts[self.leader].objective
        if self._followers and self._agreed is not path:
            self._agree(path)
        return leader.times(path, uniform)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]: the sum of the terms."""
        first, *others = self.losses(call).values()
        return sum(others, start=first)

    def losses(self, call: Call) -> dict[str, Tensor]:
        """Each term with its weight, [B]; those of a term that has several are called ``NAME/INNER``."""
        found: dict[str, Tensor] = {}
        for name, part in self.active(call.denoiser).items():
            if call.coupling is not None and call.coupling.collects and not part.objective.couples:
                continue  # of what is not coupled nothing is asked yet
            for inner, loss in part.objective.losses(call.named(name)).items():
                weighted = loss if part.weight == 1 else part.weight * loss
                found[name if inner == "loss" else f"{name}/{inner}"] = weighted
        return found

    def active(self, denoiser: Denoiser) -> Mapping[str, Weighted]:
        """The terms that ``denoiser`` is trained by: all of them."""
        return self.parts

    def prepare(self, denoiser: Denoiser) -> None:
        """Every term is prepared, and their laws of times are compared."""
        if self._followers:
            self._agree(denoiser.path)
        for part in self.active(denoiser).values():
            part.objective.prepare(denoiser)

    def meet(self, denoiser: Denoiser, companions: Mapping[str, Denoiser]) -> None:
        """Every term meets the companions."""
        for part in self.active(denoiser).values():
            part.objective.meet(denoiser, companions)

    def asked_times(self, name: str) -> Sequence[float] | None:
        """The times at which some term asks the companion ``name``; None where they may be any."""
        found = [part.objective.asked_times(name) for part in self.parts.values() if name in part.objective.needs]
        known = [times for times in found if times is not None]
        return None if len(known) < len(found) else sorted({t for times in known for t in times})

    @property
    def couples(self) -> bool:  # type: ignore[override]
        """Whether a term is a loss of the whole batch."""
        return any(part.objective.couples for part in self.parts.values())

    @property
    def fewest_rows(self) -> int:  # type: ignore[override]
        """The most that a term needs."""
        return max(part.objective.fewest_rows for part in self.parts.values())

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The companions of all terms, each once."""
        return tuple(dict.fromkeys(name for part in self.parts.values() for name in part.objective.needs))

    def modules(self) -> Mapping[str, nn.Module]:
        """The modules of all terms, as ``NAME/INNER``."""
        return {
            f"{name}/{inner}": module
            for name, part in self.parts.items()
            for inner, module in part.objective.modules().items()
        }

    def _agree(self, path: Path) -> None:
        probes = torch.tensor(PROBES, dtype=torch.float64)
        wanted = self.parts[self.leader].objective.times(path, probes)
        for name in self._followers:
            if not torch.equal(self.parts[name].objective.times(path, probes), wanted):
                raise AnydiffError(
                    f"the terms {self.leader!r} and {name!r} share one network call, but ask for different times; give "
                    "both the same options times, times_mean and times_std."
                )
        self._agreed = path


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or "." in name or name == "loss":
        raise AnydiffError(
            f"a term is called {name!r}, but its name stands in the log and must be a text without '.', other than "
            "'loss'; call it so, and give the registered objective as name."
        )
    return name


def _weighted(name: str, value: Any) -> Weighted:
    """The term that a table of a recipe says."""
    if isinstance(value, Weighted):
        return value
    if not isinstance(value, Mapping):
        raise AnydiffError(f"terms.{name} is {value!r}, but must be a table: {{weight: 1.0}}.")
    for key in value:
        if key not in ("name", "weight", "options"):
            raise UnknownNameError(f"key of terms.{name}:", str(key), ("name", "weight", "options"))
    if value.get("weight") is None:
        raise AnydiffError(f"terms.{name} has no weight; give it one: terms.{name}.weight=1.0.")
    registered, options = value.get("name", name), value.get("options") or {}
    if not isinstance(registered, str) or not isinstance(options, Mapping):
        raise AnydiffError(
            f"terms.{name} has the name {registered!r} and the options {options!r}, but needs a text and a table."
        )
    objective = registry().build("objectives", registered, **options)
    try:
        return Weighted(objective, value["weight"], (registered, options))
    except AnydiffError as error:
        raise AnydiffError(f"terms.{name} does not fit: {error}") from error


def _no_twins(parts: Mapping[str, Weighted]) -> None:
    """Refuse a term that stands there twice under two names: its weight would be another than what is written."""
    seen: list[tuple[str, Weighted]] = []
    for name, part in parts.items():
        for other, before in seen:
            if part.objective is before.objective or (part.made_of is not None and part.made_of == before.made_of):
                raise AnydiffError(
                    f"the terms {other!r} and {name!r} are the same one twice; keep one, with the sum of their weights."
                )
        seen.append((name, part))
