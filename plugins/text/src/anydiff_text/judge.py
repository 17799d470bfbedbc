"""An n-gram model of characters that no network is trained on the same text as: it judges, and it writes.

It is fitted on the held-out tenth of every other work, interpolated after Witten and Bell: with N(h) occurrences of a
context h, T(h) kinds of characters after it and h' the context without its first character,

    p(c | h) = (N(h c) + T(h) p(c | h'))/(N(h) + T(h)).
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, natural_number
from anydiff_text.data import TEST_SHARE, characters, works

ORDER = 5
"""Characters of an n-gram: four of context and the one that follows. Longer ones foretell unseen text worse."""
COPIED = 32
"""Characters in a row that count as copied where the training texts have the same."""
_PRIME = np.uint64(0x9E3779B97F4A7C15)


class NgramJudge:
    """The model of the module.

    Args:
        texts: what it is fitted on.
        order: characters of an n-gram.
        alphabet: every character that has a probability; others share that of one more.

    Raises:
        AnydiffError: no text, or an order below 1.
    """

    def __init__(self, texts: Iterable[str], order: int = ORDER, alphabet: str | None = None) -> None:
        self.order = natural_number("order", order)
        self.kinds = len(characters() if alphabet is None else alphabet) + 1
        self._after: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order)]
        for text in texts:
            for size, table in enumerate(self._after):
                for place in range(size, len(text)):
                    table[text[place - size : place]][text[place]] += 1
        if not self._after[0]:
            raise AnydiffError("a judge needs texts that are not empty; give some.")

    def probability(self, context: str, character: str) -> float:
        """p(character | context); of the context the last ``order - 1`` characters count."""
        chance = 1 / self.kinds
        for size in range(min(self.order - 1, len(context)) + 1):
            counts = self._after[size].get(context[len(context) - size :])
            if counts is None:
                break
            total, kinds = counts.total(), len(counts)
            chance = (counts[character] + kinds * chance) / (total + kinds)
        return chance

    def bits(self, texts: Sequence[str]) -> float:
        """Bits per character over all ``texts``; each begins without a context.

        Raises:
            AnydiffError: no character at all.
        """
        count = sum(map(len, texts))
        if not count:
            raise AnydiffError("the texts hold no character to judge; give at least one.")
        total = 0.0
        for text in texts:
            for place, character in enumerate(text):
                total -= math.log2(self.probability(text[max(0, place - self.order + 1) : place], character))
        return total / count


def _held_out(begin: int) -> list[str]:
    """The held-out parts of every second work, from the work ``begin`` on."""
    texts = list(works().values())[begin::2]
    return [text[len(text) - int(len(text) * TEST_SHARE) :] for text in texts]


@functools.cache
def judge() -> NgramJudge:
    """The judge of Shakespeare: fitted on held-out parts, which no model is trained on."""
    return NgramJudge(_held_out(0))


def unseen() -> list[str]:
    """Held-out parts that the judge was not fitted on either."""
    return _held_out(1)


def copied(texts: Sequence[str]) -> float:
    """The share of runs of ``COPIED`` characters in ``texts`` that stand in the training texts; NaN without any.

    White space is taken as one blank. Runs are compared by hashes of 64 bits.
    """
    runs = [_runs(" ".join(text.split())) for text in texts]
    found = np.concatenate([*runs, np.empty(0, dtype=np.uint64)])
    if not len(found):
        return math.nan
    known = _training_runs()  # sorted, so each run is looked up; np.isin would sort all of them at every call
    places = np.searchsorted(known, found).clip(max=len(known) - 1)
    return float((known[places] == found).mean())


@functools.cache
def _training_runs() -> NDArray[np.uint64]:
    """Of every run of the training parts its hash, each once."""
    texts = (text[: len(text) - int(len(text) * TEST_SHARE)] for text in works().values())
    return np.unique(np.concatenate([_runs(" ".join(text.split())) for text in texts]))


def _runs(text: str) -> NDArray[np.uint64]:
    """A hash of every run of ``COPIED`` characters: Σ c_i P^i, arithmetic modulo 2^64."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    count = len(codes) - COPIED + 1
    out = np.zeros(max(count, 0), dtype=np.uint64)
    for place in range(COPIED if count > 0 else 0):
        out = out * _PRIME + codes[place : place + count]
    return out ^ (out >> np.uint64(29))
