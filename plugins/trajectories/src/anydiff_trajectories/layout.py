"""Which columns of a state row mean what: ``{"action": 2, "observation": 4}``."""

from __future__ import annotations

from collections.abc import Mapping

from anydiff.errors import AnydiffError, UnknownNameError, natural_number

PARTS = ("action", "observation", "reward", "done", "return")
"""What a row of a state may hold, in the order of its columns. ``return`` is the discounted return-to-go."""


class Layout:
    """Named slices of the last axis of a state ``[..., horizon, width]``.

    Args:
        parts: name -> number of columns. They stand in the order of :data:`PARTS`, whatever order they are given in
            (a recipe's keys are sorted where it is stored).

    Raises:
        UnknownNameError: a part that is none of :data:`PARTS`.
        AnydiffError: no observation among them, or a reward, done or return of more than one column.
    """

    def __init__(self, parts: Mapping[str, int]) -> None:
        for name in parts:
            if name not in PARTS:
                raise UnknownNameError("part of a state", name, PARTS)
        self.parts: dict[str, slice] = {}
        start = 0
        for name in (part for part in PARTS if part in parts):
            size = natural_number(name, parts[name])
            if name not in ("action", "observation") and size != 1:
                raise AnydiffError(f"part {name!r} has {size} columns, but has one number per step.")
            self.parts[name] = slice(start, start + size)
            start += size
        if "observation" not in self.parts:
            raise AnydiffError(f"parts is {dict(parts)!r}, but every state needs an observation.")
        self.width = start

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def __getitem__(self, name: str) -> slice:
        if name not in self.parts:
            raise UnknownNameError("part of this state", name, self.parts)
        return self.parts[name]

    def size(self, name: str) -> int:
        """Number of columns of a part."""
        part = self[name]
        return int(part.stop - part.start)
