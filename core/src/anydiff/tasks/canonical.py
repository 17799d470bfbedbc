"""Plain data as text: equal data give equal text, so that a hash of the text names the data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """``value`` as data that every JSON reader understands: tuples as lists, infinities and NaN as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def canonical(value: Any) -> str:
    """``value`` as JSON with sorted keys: equal data, equal text."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical form."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
