"""Making the examples of the next steps in a thread, while the network trains on those of this one.

What a step trains on is a pure function of (seed, positions), so it may be made at any time. The thread makes the keys
in the order in which they will be asked for and holds at most ``ahead`` of them; what it raises is raised where the
examples are asked for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Prefetch(Generic[K, V]):
    """A thread that calls ``make`` for each of ``keys``, in their order.

    Args:
        make: called in the thread; must not depend on anything that the caller changes meanwhile.
        keys: all keys that will be asked for.
        ahead: most values that wait to be taken, at least 1; one more may be in the making.
    """

    def __init__(self, make: Callable[[K], V], keys: Iterable[K], ahead: int) -> None:
        self._make, self._keys = make, keys
        self._made: queue.Queue[tuple[K, V | None, BaseException | None]] = queue.Queue(maxsize=ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="anydiff-examples", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for key in self._keys:
            value, error = None, None
            try:
                value = self._make(key)
            except BaseException as raised:  # whatever it is belongs to whoever asks for the examples
                error = raised
            self._made.put((key, value, error))
            if error is not None or self._stopped.is_set():
                return

    def take(self, key: K) -> V:
        """The value of ``key``, which must be the next in order.

        Raises:
            ValueError: another key is the next.
            BaseException: what ``make`` raised.
        """
        found, value, error = self._made.get()
        if error is not None:
            raise error
        if found != key:
            raise ValueError(f"{key} was asked for, but the next is {found}.")
        assert value is not None
        return value

    def close(self) -> None:
        """Stop the thread after the value that it is making."""
        self._stopped.set()
        while not self._made.empty():  # room for the value that it may be waiting to hand over
            self._made.get_nowait()
        self._thread.join(timeout=5.0)
