"""Texts without a network: an n-gram model of the training texts, as a sampler."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Dataset
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning, uniform
from anydiff_text.data import Shakespeare, training_tokens

ORDER = 6
"""Tokens of an n-gram: five of context and the one that follows, which foretells held-out Shakespeare best."""
_LARGEST = 2**62


class NgramSampler:
    """Draws token after token from counts, interpolated after Witten and Bell as :mod:`anydiff_text.judge` does.

    The law of a context h that stands N times in the texts with T kinds of tokens after it is, with the probability
    N/(N + T), that of what follows at one of the N places, each alike, and else the law of h without its first token.
    A token of which nothing is known is one of those of the texts, each place alike.

    Args:
        texts: class numbers of each text, int64.
        kinds: how many classes there are.
        order: tokens of an n-gram.

    Raises:
        AnydiffError: no token, an order below 1, or one whose n-grams have no number below 2^62.
    """

    def __init__(self, texts: list[Tensor], kinds: int, order: int = ORDER) -> None:
        self.kinds, self.order = natural_number("kinds", kinds), natural_number("order", order)
        if self.kinds**self.order > _LARGEST:
            raise AnydiffError(
                f"n-grams of order {order} over {kinds} classes have no numbers below 2^62; lower order."
            )
        if not sum(len(text) for text in texts):
            raise AnydiffError("an n-gram sampler needs texts that are not empty; give some.")
        self._tables = [self._sorted(texts, size) for size in range(1, self.order + 1)]

    def _sorted(self, texts: list[Tensor], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(numbers of all runs of ``size`` tokens, sorted; how many different ones stand before each)."""
        runs = [self._numbers(text.numpy(), size) for text in texts if len(text) >= size]
        every = np.sort(np.concatenate([*runs, np.empty(0, dtype=np.int64)]))
        new = np.ones(len(every), dtype=np.int64)
        new[1:] = every[1:] != every[:-1]
        return every, np.concatenate([[0], np.cumsum(new)])

    def _numbers(self, text: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Runs of ``size`` tokens as numbers of base ``kinds``, the last token the lowest digit."""
        count = len(text) - size + 1
        found = np.zeros(count, dtype=np.int64)
        for place in range(size):
            found = found * self.kinds + text[place : place + count]
        return found

    def draw(self, count: int, length: int, seed: int = 0) -> NDArray[np.int64]:
        """Class numbers int64 ``[count, length]``; row k depends on ``seed`` and k alone."""
        begin = self.order - 1  # that many tokens before the text, since it begins anywhere in a work
        states = np.zeros((count, begin + length), dtype=np.int64)
        numbers = uniform(seed, range(count), 0, "text/ngram", (begin + length, self.order + 1)).numpy()
        for place in range(begin + length):
            states[:, place] = self._next(states[:, max(0, place - begin) : place], numbers[:, place])
        return states[:, begin:]

    def _next(self, context: NDArray[np.int64], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """One token after each context; ``numbers [count, order + 1]``: for each length of context, and the place."""
        found = np.full(len(context), -1, dtype=np.int64)
        for size in range(min(self.order - 1, context.shape[1]), -1, -1):
            every, different = self._tables[size]
            head = np.zeros(len(context), dtype=np.int64)
            for place in range(context.shape[1] - size, context.shape[1]):
                head = head * self.kinds + context[:, place]
            low, high = (np.searchsorted(every, (head + step) * self.kinds) for step in (0, 1))
            occurrences, follow = high - low, different[high] - different[low]
            stays = numbers[:, size] * (occurrences + follow) < occurrences
            taken = (found < 0) & (occurrences > 0) & (stays | (size == 0))
            at = (low + numbers[:, -1] * occurrences).astype(np.int64).clip(max=np.maximum(high - 1, 0))
            found = np.where(taken, every[at.clip(max=len(every) - 1)] % self.kinds, found)
        return found


def ngram(training: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """States of texts that the n-gram model of all training texts writes, int64 ``[count, length]``."""
    if not isinstance(training, Shakespeare):
        raise AnydiffError(f"the baseline 'ngram' counts Shakespeare's texts, but the data are {training.name!r}.")
    domain = training.domain
    return torch.from_numpy(_fitted(domain.tokeniser, domain.vocabulary).draw(count, domain.length, seed))


@functools.cache
def _fitted(tokeniser: str, vocabulary: str | None) -> NgramSampler:
    texts = training_tokens(tokeniser, vocabulary)
    return NgramSampler(texts, 1 + max(int(text.max()) for text in texts))
