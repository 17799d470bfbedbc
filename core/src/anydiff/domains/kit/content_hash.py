"""Hashes of what data are made of: texts (options, names), arrays and files, one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Content = str | bytes | Path | torch.Tensor | NDArray[Any]
"""A text (as UTF-8), bytes, a file (its content), or an array (its elements in C order, without shape and dtype)."""


def content_hash(*parts: Content) -> str:
    """Hexadecimal sha256 over ``parts``, in their order.

    Nothing stands between two parts, and an array does not say its shape: where either may vary, give a text with it.
    """
    return content_hash_of(parts)


def content_hash_of(parts: Iterable[Content]) -> str:
    """As :func:`content_hash`, of parts that are made one by one and need not fit into memory together."""
    digest = hashlib.sha256()
    for part in parts:
        _add(digest.update, part)
    return digest.hexdigest()


def _add(update: Callable[[Any], None], part: Content) -> None:
    if isinstance(part, str):
        update(part.encode())
    elif isinstance(part, bytes):
        update(part)
    elif isinstance(part, Path):
        update(part.read_bytes())
    elif isinstance(part, torch.Tensor):
        update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    else:
        update(np.ascontiguousarray(part).tobytes())
