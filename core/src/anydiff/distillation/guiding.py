"""Guidance that an objective of a distillation has around a network, from what its recipe says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.registry import registry


def built_guidance(parts: Sequence[str | Mapping[str, Any]]) -> list[Wrapper]:
    """Guidances by their names, or by tables of name and options, the first innermost.

    Raises:
        UnknownNameError: no such guidance, or no such option of it.
    """
    found = []
    for part in parts:
        table: Mapping[str, Any] = {"name": part} if isinstance(part, str) else part
        made: Wrapper = registry().build("guidance", str(table["name"]), **dict(table.get("options") or {}))
        found.append(made)
    return found
