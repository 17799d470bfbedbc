"""What is asked of a JSON text before and while it is parsed: its depth, and that no name stands twice."""

from __future__ import annotations

from typing import Any


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; two entries of one name would be two readings of one file.

    Raises:
        ValueError: a name stands twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in found if names.count(name) > 1)!r} stands twice in one object")
    return found


def json_depth(content: bytes) -> int:
    """How deep lists and objects of a JSON text stand inside one another; brackets inside strings do not count."""
    import numpy as np  # not at the start of every command

    if b"\\" in content:
        content = content.replace(rb"\\", b"").replace(rb"\"", b"")
    step = np.zeros(256, dtype=np.int8)
    step[list(b"[{")], step[list(b"]}")] = 1, -1
    mark = step != 0
    mark[ord('"')] = True
    codes = np.frombuffer(content, dtype=np.uint8)
    codes = codes[mark[codes]]
    outside = np.cumsum(codes == ord('"')) % 2 == 0
    return int(np.cumsum(np.where(outside, step[codes], 0), dtype=np.int64).max(initial=0))
