"""What stands beside a state: the kinds of condition that a network can be told, and one object that holds them all.

A condition's meaning is the field of :class:`Conditioning` it stands in, never the spelling of its name: a domain may
call a condition ``mask`` or ``label_present``, and it is one like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number


@dataclass(frozen=True)
class ClassCondition:
    """One of ``classes`` classes: integers [B] in [0, classes), or soft labels [B, classes] (rows sum to 1)."""

    classes: int

    def __post_init__(self) -> None:
        natural_number("classes", self.classes)


@dataclass(frozen=True)
class VectorCondition:
    """A vector of ``size`` numbers per sample: [B, size], of order one."""

    size: int

    def __post_init__(self) -> None:
        natural_number("size", self.size)


@dataclass(frozen=True)
class ArrayCondition:
    """An array of ``shape`` per sample, [B, *shape], of order one: past values, frames, members of an ensemble.

    Networks that can read it say so; those that condition on one vector refuse it.
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(natural_number("shape", size) for size in self.shape))
        if not self.shape:
            raise AnydiffError("shape is empty, but an ArrayCondition needs at least one axis; use VectorCondition(1).")


Condition = ClassCondition | VectorCondition | ArrayCondition

Rows = slice | Sequence[int] | Tensor
"""Which rows: a slice, numbers, or a tensor of numbers; they may repeat."""


class Known(NamedTuple):
    """Entries of clean states that are known before sampling.

    Attributes:
        values: ``[B, *shape]``; entries outside the mask may hold anything, NaN included.
        mask: which of them are known, bool ``[B, *shape]``.
    """

    values: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Everything that is given beside the states ``[B, *shape]`` of a batch; every tensor has B rows.

    Its tables cannot be written into; the methods give changed copies.

    Attributes:
        given: what a network may be told, by the names of the domain's conditions, and of a guidance's own.
        present: bool ``[B]`` by the same names: in which rows the condition is there at all; what the other rows hold
            has no influence. A condition that is given and not named here is present in every row.
        mask: bool ``[B, N]``: which nodes a sample has, where samples differ in size.
        known: entries of the clean states that must come out as they are.
        sources: what a path leads to beside data and noise, by the names of :attr:`anydiff.paths.Path.known`.
        truth: what metrics may know of an example, and no network.
        loss_weight: non-negative weights of the entries ``[B, *shape]`` (or broadcastable) in the loss.
        context: clean states ``[B, *shape]`` beside the noised ones of a training: a network with an order sees at each
            position those of the turns before.
        index: int64 ``[B]``: the number of each row in its sample set, the key of its random stream; None outside of
            sampling.
        parts: what a network has computed of a condition before the first call (name of the condition -> name of the
            part -> tensor), see :meth:`anydiff.denoisers.Denoiser.encode_condition`. It does not depend on
            :attr:`present`.
    """

    given: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    known: Known | None = None
    sources: Mapping[str, Tensor] = field(default_factory=dict)
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    loss_weight: Tensor | None = None
    index: Tensor | None = None
    parts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    context: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("given", "present", "sources", "truth"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        parts = {name: MappingProxyType(dict(made)) for name, made in self.parts.items()}
        object.__setattr__(self, "parts", MappingProxyType(parts))

    def __reduce__(self) -> tuple[Any, ...]:
        return Conditioning.from_tensors, (dict(self.tensors()),)

    @classmethod
    def of(cls, condition: Conditioning | Mapping[str, Tensor] | None = None, /, **given: Tensor) -> Conditioning:
        """``condition`` as it is, or a dictionary (or keywords) as what is :attr:`given`."""
        if isinstance(condition, Conditioning):
            return condition.with_given(**given) if given else condition
        return cls({**(condition or {}), **given})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Conditioning:
        """What :meth:`tensors` made, back from a file or another process.

        Raises:
            AnydiffError: a name that is none of :meth:`tensors`.
        """
        groups: dict[str, dict[str, Tensor]] = {"given": {}, "present": {}, "sources": {}, "truth": {}}
        alone: dict[str, Any] = {}
        known: dict[str, Tensor] = {}
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            if group in groups and rest:
                groups[group][rest] = value
            elif group == "known" and rest in Known._fields:
                known[rest] = value
            elif group == "parts" and "." in rest:
                parts.setdefault(rest.partition(".")[0], {})[rest.partition(".")[2]] = value
            elif name in ("mask", "loss_weight", "index", "context"):
                alone[name] = value
            else:
                raise AnydiffError(f"{name!r} names no field of a Conditioning; write given.NAME for a condition.")
        return cls(
            groups["given"], groups["present"], sources=groups["sources"], truth=groups["truth"], parts=parts,
            known=Known(**known) if known else None, **alone,
        )  # fmt: skip

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with a name of its own: ``given.label``, ``present.label``, ``mask``, ``known.values``, …"""
        for group in ("given", "present", "sources", "truth"):
            for name, value in getattr(self, group).items():
                yield f"{group}.{name}", value
        for name in ("mask", "loss_weight", "index", "context"):
            value = getattr(self, name)
            if value is not None:
                yield name, value
        if self.known is not None:
            yield from (("known.values", self.known.values), ("known.mask", self.known.mask))
        for condition, made in self.parts.items():
            for name, value in made.items():
                yield f"parts.{condition}.{name}", value

    def __bool__(self) -> bool:
        """Whether anything is given at all."""
        return next(self.tensors(), None) is not None

    def rows(self, rows: Rows) -> Conditioning:
        """These rows, in that order."""
        chosen = rows if isinstance(rows, slice | Tensor) else list(rows)
        return self._each(lambda value: value[chosen.to(value.device) if isinstance(chosen, Tensor) else chosen])

    def repeat(self, times: int) -> Conditioning:
        """Each row ``times`` times, one copy after the other."""
        return self._each(lambda value: value.repeat_interleave(times, dim=0))

    def to(self, device: torch.device | str) -> Conditioning:
        """The same on ``device``."""
        return self._each(lambda value: value.to(device))

    def clone(self) -> Conditioning:
        """Copies of all tensors."""
        return self._each(torch.clone)

    @staticmethod
    def joined(parts: Sequence[Conditioning]) -> Conditioning:
        """The rows of several, one after the other; all hold the same fields and names."""
        return _made_of(parts, torch.cat)

    def with_given(self, **given: Tensor) -> Conditioning:
        """With these conditions too, or in place of those of the same names."""
        return replace(self, given={**self.given, **given})

    def with_parts(self, name: str, **made: Tensor) -> Conditioning:
        """With parts ``made`` of the condition ``name``."""
        return replace(self, parts={**self.parts, name: {**self.parts.get(name, {}), **made}})

    def without(self, names: Iterable[str]) -> Conditioning:
        """Without the conditions ``names``, as if they had not been given."""
        return self._only(set(self.given) - set(names))

    def only(self, names: Iterable[str]) -> Conditioning:
        """Of what is :attr:`given` the conditions ``names`` alone."""
        return self._only(set(names))

    def hidden(self, names: Iterable[str], absent: bool | Tensor = True) -> Conditioning:
        """With the conditions ``names`` absent where ``absent`` (bool ``[B]``) says so, beside where they were."""
        present = dict(self.present)
        for name in names:
            there = self.presence(name)
            if isinstance(absent, bool):
                present[name] = torch.zeros_like(there) if absent else there
            else:
                present[name] = there & ~absent
        return replace(self, present=present)

    def presence(self, name: str) -> Tensor:
        """Bool ``[B]``: in which rows the condition ``name``, which is given, is there."""
        value = self.present.get(name)
        if value is not None:
            return value.bool()
        given = self.given[name]
        return torch.ones(len(given), dtype=torch.bool, device=given.device)

    def without_truth(self) -> Conditioning:
        """Without what metrics alone may know."""
        return replace(self, truth={}) if self.truth else self

    def asked(self) -> Conditioning:
        """What a model may be asked with: without the truth, the weights of the loss and the clean states beside."""
        return replace(self, truth={}, loss_weight=None, context=None)

    def checked(self, rows: int) -> Conditioning:
        """Itself, each tensor with one row per sample.

        Raises:
            AnydiffError: something is no tensor, or has another number of rows; the sentence names it.
        """
        for name, value in self.tensors():
            check_rows(spoken(name), value, rows)
        return self

    def _only(self, names: set[str]) -> Conditioning:
        def kept(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name in names}

        return replace(self, given=kept(self.given), present=kept(self.present), parts=kept(self.parts))

    def _each(self, function: Callable[[Tensor], Tensor]) -> Conditioning:
        return _made_of([self], lambda values: function(values[0]))


def _made_of(parts: Sequence[Conditioning], function: Callable[[list[Tensor]], Tensor]) -> Conditioning:
    """``function`` of the tensors that stand at the same place in each part; it runs within network calls, so it names
    no place by a text."""

    def table(tables: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: function([each[name] for each in tables]) for name in tables[0]}

    def alone(values: Sequence[Tensor | None]) -> Tensor | None:
        return None if values[0] is None else function([value for value in values if value is not None])

    first = parts[0]
    return Conditioning(
        table([part.given for part in parts]),
        table([part.present for part in parts]),
        alone([part.mask for part in parts]),
        None if first.known is None else Known(*map(function, zip(*(part.known for part in parts), strict=True))),
        table([part.sources for part in parts]),
        table([part.truth for part in parts]),
        alone([part.loss_weight for part in parts]),
        alone([part.index for part in parts]),
        {name: table([part.parts[name] for part in parts]) for name in first.parts},
        alone([part.context for part in parts]),
    )


UNCONDITIONAL = Conditioning()
"""Nothing is given."""


def check_rows(what: str, value: object, rows: int) -> None:
    """Refuse a ``value`` that has not one row for each of ``rows`` samples; ``what`` is its name in the sentence.

    Raises:
        AnydiffError: it is no tensor, or has another number of rows.
    """
    if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != rows:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise AnydiffError(f"{what} has {found} where {rows} rows are needed; give a tensor with one row per sample.")


def spoken(name: str) -> str:
    """A name of :meth:`Conditioning.tensors` as errors say it: ``given.label`` is ``condition 'label'``."""
    group, _, rest = name.partition(".")
    words = {
        "given": f"condition {rest!r}",
        "present": f"the presence of condition {rest!r}",
        "sources": f"source {rest!r}",
        "truth": f"truth {rest!r}",
    }
    return words.get(group, name)


def hashed_names(condition: Conditioning) -> dict[str, Tensor]:
    """The tensors by the names under which hashes of data have always covered them, sorted.

    Hashes of data sets, locks of tasks and provenances stand in published files, so these names stay as they are:
    ``label``, ``label_present``, ``mask``, ``loss_mask``, ``truth_<name>``.
    """
    found = {f"{name}_present": value for name, value in condition.present.items()}
    found.update(condition.sources)
    found.update({f"truth_{name}": value for name, value in condition.truth.items()})
    for name, value in (("mask", condition.mask), ("loss_mask", condition.loss_weight)):
        if value is not None:
            found[name] = value
    if condition.known is not None:
        found.update(known=condition.known.values, known_mask=condition.known.mask)
    given = {name if name not in found else f"given.{name}": value for name, value in condition.given.items()}
    return dict(sorted({**found, **given}.items()))
