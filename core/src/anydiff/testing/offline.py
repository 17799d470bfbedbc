"""Finding out whether code reaches for the network, without letting it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

_watching: list[list[str]] = []
_installed = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        _watching[-1].append(event)
        raise OSError("the network is closed during this check")


@contextlib.contextmanager
def closed_network() -> Iterator[list[str]]:
    """Refuse every connection inside the block; the list names the attempts, swallowed errors or not."""
    global _installed
    if not _installed:  # an audit hook cannot be removed again, so there is one for ever
        sys.addaudithook(_audit)
        _installed = True
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()
