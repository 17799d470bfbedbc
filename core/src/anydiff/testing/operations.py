"""Named operations: functions of a plan's registers, row by row."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anydiff.registry import Entry
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require

SHAPES = ((6,), (3, 4), (1, 4, 4))


def _operation(plugin: Subject, entry: Entry) -> tuple[Callable[..., Tensor], int, dict[str, Any]]:
    """The function, how many registers it takes, and its options (``inputs`` and ANYDIFF_CHECK_OPTIONS say them)."""
    function: Callable[..., Tensor] = entry.load()
    require(callable(function), f"it refers to {function!r}, which is no function.")
    parameters = inspect.signature(function).parameters.values()
    own = sum(
        each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.name != "t" for each in parameters
    )
    count = int(entry.metadata.get("inputs") or own)
    require(count >= 1, "it takes no register; write f(x, *, t, **options), or register inputs=2 for a starred one.")
    return function, count, plugin.options(entry.name)


@check("operation.rows", "operations")
def rows(plugin: Subject, entry: Entry) -> None:
    """It gives one finite state per row, each of which depends on its own row alone, and leaves its inputs alone."""
    function, count, options = _operation(plugin, entry)
    generator = torch.Generator().manual_seed(19)
    for shape in SHAPES:
        registers = [torch.randn(4, *shape, generator=generator, dtype=torch.float64) for _ in range(count)]
        kept = [each.clone() for each in registers]
        together = function(*registers, t=0.5, **options)
        require(together.shape == registers[0].shape, f"of {(4, *shape)} it makes {tuple(together.shape)}.")
        require(together.isfinite().all(), "what it gives is not finite.")
        same = all(torch.equal(*pair) for pair in zip(kept, registers, strict=True))
        require(same, "it writes into its inputs; return a new tensor.")
        for row in range(4):
            alone = function(*(each[row : row + 1] for each in registers), t=0.5, **options)
            close = torch.allclose(alone, together[row : row + 1], rtol=1e-9, atol=1e-9)
            require(close, f"row {row} alone gives something else than among four: a sample would depend on its batch.")
