"""Philox4x64-10 for many short streams at once: the numbers that NumPy draws from them one stream after another.

Setting a generator to the stream of a sample costs microseconds, which is nothing beside the noise of an image and
everything beside two numbers. For streams of few numbers the blocks of all samples are made together here. The normal
numbers are those of NumPy's ziggurat (Marsaglia and Tsang, "The ziggurat method for generating random variables",
2000): of 64 random bits eight choose a layer, one the sign, 52 the place in it, and 98.5 % of them need no second look.
A stream with one that does is left to NumPy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_PLACES = float(1 << 52)

#: Blocks of four words that are made together: their intermediate results stay in the cache of a core.
_TOGETHER = 4096


def words(seed: int, key: int, draw: int, samples: Words, count: int) -> Words:
    """The first ``count`` words of 64 bits of each sample's stream ``[len(samples), count]``.

    The key is (seed, key) and the counter of the b-th block (b + 1, 0, draw, sample), as in ``np.random.Philox``.
    """
    blocks = -(-count // 4)
    out = np.empty((len(samples), blocks, 4), dtype=np.uint64)
    rows = max(1, _TOGETHER // blocks)
    for begin in range(0, len(samples), rows):
        part = out[begin : begin + rows]
        counter = np.zeros((4, len(part), blocks), dtype=np.uint64)
        counter[0] = np.arange(1, blocks + 1, dtype=np.uint64)
        counter[2] = np.uint64(draw)
        counter[3] = samples[begin : begin + rows, None]
        for place, word in enumerate(_rounds(counter, seed, key)):
            part[:, :, place] = word
    return out.reshape(len(samples), -1)[:, :count]


def _rounds(counter: Words, *keys: int) -> tuple[Words, Words, Words, Words]:
    first, second, third, fourth = counter
    for turn in range(10):
        round_keys = [np.uint64((key + turn * weyl) % (1 << 64)) for key, weyl in zip(keys, _WEYL, strict=True)]
        high_first, low_first = _product(_MULTIPLIERS[0], first)
        high_third, low_third = _product(_MULTIPLIERS[1], third)
        high_third ^= second
        high_third ^= round_keys[0]
        high_first ^= fourth
        high_first ^= round_keys[1]
        first, second, third, fourth = high_third, low_third, high_first, low_first
    return first, second, third, fourth


def _product(factor: np.uint64, value: Words) -> tuple[Words, Words]:
    """The upper and the lower 64 bits of a product of 128, from products of 32 by 32 bits."""
    factor_high, factor_low = factor >> _HALF, factor & _LOW
    high, low = value >> _HALF, value & _LOW
    middle = high * factor_low
    middle += (low * factor_low) >> _HALF
    low *= factor_high
    low += middle & _LOW
    low >>= _HALF
    middle >>= _HALF
    high *= factor_high
    high += middle
    high += low
    return high, value * factor


def uniforms(made: Words) -> NDArray[np.float64]:
    """What NumPy's ``random()`` makes of words: multiples of 2^-53 in [0, 1)."""
    return (made >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(made: Words, layers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The normal number that each word gives at first sight, and whether it stands; ``layers`` of :func:`layer_widths`.

    A word whose place is so near the edge of its layer's inner part that rounding decides counts as not standing.
    """
    layer, place = _layer_and_place(made)
    value = place * layers[layer]
    np.negative(value, out=value, where=(made & np.uint64(256)) != 0)
    return value, place < _inner(layers)[layer]


def _layer_and_place(made: Words) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    return (made & np.uint64(255)).astype(np.intp), ((made << np.uint64(3)) >> np.uint64(12)).astype(np.float64)


def _inner(layers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places of a layer below this lie inside the next one, so under the curve; none do in layer 1, at the top."""
    inner = np.roll(layers, 1) / layers * _PLACES - 8
    inner[1] = 0
    return inner


@functools.cache
def layer_widths(draws: Callable[[range, int], NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """The width of a place in each of the 256 layers, read off from NumPy's own ``draws``; None if they disagree.

    Args:
        draws: (samples, count) -> NumPy's first ``count`` normal numbers of the streams of seed 0, key 0 and draw 0.

    The widths are known to NumPy alone, to the last bit. A number that stands is place x width, rounded, so about
    thirty numbers per layer leave one float64. Another version of NumPy with another method leaves none.
    """
    samples = range(1024)
    made = words(0, 0, 0, np.arange(len(samples), dtype=np.uint64), 8)
    drawn = np.abs(draws(samples, 8))
    # What a stream gives after a word that did not stand is of other words.
    close, standing = normals(made, _approximate_widths())
    usable = np.logical_and.accumulate(standing, axis=1)
    layer, place = (each[usable] for each in _layer_and_place(made))
    value = drawn[usable]
    if not np.allclose(value, np.abs(close[usable]), rtol=1e-9, atol=0.0):
        return None
    found = _approximate_widths()
    order = np.argsort(place)
    found[layer[order]] = (value / place)[order]  # the last one counts: the greatest place, whose error is the least
    steps = np.arange(-3, 4) * np.spacing(found)[:, None]
    fits = np.zeros(steps.shape, dtype=bool)
    for column in range(steps.shape[1]):
        wrong = place * (found + steps[:, column])[layer] != value
        fits[:, column] = np.bincount(layer, weights=wrong, minlength=256) == 0
    fits[1] = np.arange(steps.shape[1]) == 3  # layer 1 never stands
    if (fits.sum(axis=1) != 1).any():
        return None
    return found + steps[fits]


def _approximate_widths() -> NDArray[np.float64]:
    """The widths by their definition: 256 layers of equal area under exp(-x²/2), to about twelve digits."""
    tail, area = 3.6541528853610088, 0.0049286732339746549
    widths = np.empty(256)
    edge = widths[255] = tail
    height = np.exp(-(tail**2) / 2)
    widths[0] = area / height
    for layer in range(254, 0, -1):
        height += area / edge
        edge = widths[layer] = np.sqrt(-2 * np.log(min(height, 1.0)))
    return widths / _PLACES
