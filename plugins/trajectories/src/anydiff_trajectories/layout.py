"""Which columns of a state row mean what: ``{"action": 2, "observation": 4}`` in order."""

from __future__ import annotations

from collections.abc import Mapping

from anydiff.errors import AnydiffError, UnknownNameError, natural_number

PARTS = ("action", "observation", "reward", "done", "return")
"""What a row of a state may hold. ``return`` is the discounted return-to-go."""


class Layout:
    """Named slices of the last axis of a state ``[..., horizon, width]``.

    Args:
        parts: name -> number of columns, in the order they stand.

    Raises:
        UnknownNameError: a part that is none of :data:`PARTS`.
        AnydiffError: no observation among them, or a reward, done or return of more than one column.
    """

    def __init__(self, parts: Mapping[str, int]) -> None:
        self.parts = {}
        start = 0
        for name, size in parts.items():
            if name not in PARTS:
                raise UnknownNameError("part of a state", name, PARTS)
            size = natural_number(name, size)
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
