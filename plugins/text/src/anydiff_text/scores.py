"""The bound of a model in bits per character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anydiff.errors import AnydiffError


def bits_per_character(
    pipeline: Any, texts: Sequence[str], draws: int = 64, seed: int = 0
) -> tuple[float, list[float]]:
    """(over all texts, of each): an upper bound of -log2 p over the number of characters.

    It is the masked cross-entropy (:meth:`anydiff.pipeline.Pipeline.bound`), a bound for every model on a masked path;
    what a text shorter than the states pays for its ends is a part of it.

    Raises:
        AnydiffError: an empty text, which has no characters to share the bits among.
    """
    for number, text in enumerate(texts):
        if not text:
            raise AnydiffError(f"text {number} is empty, so it has no bits per character; leave it out.")
    bits = (pipeline.bound(texts, draws=draws, seed=seed) / math.log(2)).tolist()
    return sum(bits) / sum(map(len, texts)), [each / len(text) for each, text in zip(bits, texts, strict=True)]
