"""Counter-based random numbers: a draw is a pure function of (seed, sample, draw, stream name).

The generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as NumPy ships
it. Its 128-bit key is (seed, hash of the stream's name) and its 256-bit counter is (block, 0, draw, sample), so no two
draws can share a block, no state is carried from call to call, and neither batch size nor order can touch a number.
Draws are made in float64 on the host, so that a sample has the same noise in every precision and on every device.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, natural_number
from anydiff.states import philox

_WORD = 1 << 64

#: Streams of so few numbers, from so many samples on, are made together: measured where it is no slower.
_FEW, _MANY = 8, 256


@functools.cache
def _stream_key(stream: str) -> int:
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")


def _generators(seed: int, samples: Iterable[int], draw: int, stream: str) -> Iterator[np.random.Generator]:
    """One generator per sample, each standing at the beginning of its own stream; use it before taking the next.

    It is one generator whose state is set anew: eight times as fast as making one per sample, and the same numbers.
    """
    return _standing(seed, _stream_key(stream), samples, draw)


def _standing(seed: int, key: int, samples: Iterable[int], draw: int) -> Iterator[np.random.Generator]:
    words = np.array([seed, key], dtype=np.uint64)
    # Checked, because NumPy would cut 1.5 to 1 in silence and give another sample's noise.
    counter = np.array([0, 0, _word("draw", draw), 0], dtype=np.uint64)
    bits = np.random.Philox(counter=counter, key=words)
    generator = np.random.Generator(bits)
    state: Any = bits.state
    for sample in samples:
        state["state"]["counter"][3] = _word("sample", sample)
        bits.state = state
        yield generator


def check_seed(seed: object) -> int:
    """Return ``seed`` if it is a whole number in [0, 2^64), or raise an :class:`~anydiff.errors.AnydiffError`."""
    return _word("seed", seed)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed in [0, 2^63) for ``purpose``, so that what is drawn for one purpose shares no number with another's."""
    digest = hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _word(field: str, value: object) -> int:
    number = natural_number(field, value, minimum=0)
    if number >= _WORD:
        raise AnydiffError(f"{field} is {number}, but must be a whole number below 2^64; choose a smaller one.")
    return number


def standard_normal(
    seed: int, samples: Sequence[int], draw: int, stream: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Standard normal numbers ``[len(samples), *shape]`` (float64), one independent stream per sample index.

    Args:
        seed: whole number in [0, 2^64).
        samples: the index of each sample in its sample set; any order, any subset.
        draw: which draw of the sample this is (0 is the prior, then one per noise instruction).
        stream: name of what is drawn (a leaf of the state, say); other names give independent numbers.
        shape: shape of one sample's draw.
    """
    check_seed(seed)
    out = np.empty((len(samples), *shape))
    rows: Iterable[int] = range(len(samples))
    made = _words(seed, samples, draw, stream, shape)
    widths = None if made is None else philox.layer_widths(_first_normals)
    if made is not None and widths is not None:
        values, standing = philox.normals(made, widths)
        out[:] = values.reshape(out.shape)
        rows = np.flatnonzero(~standing.all(axis=1)).tolist()
    left = [samples[row] for row in rows]
    for row, generator in zip(rows, _generators(seed, left, draw, stream), strict=True):
        generator.standard_normal(out=out[row : row + 1])
    return out


def _words(seed: int, samples: Sequence[int], draw: int, stream: str, shape: tuple[int, ...]) -> philox.Words | None:
    """The words of streams that are many and short, together ``[len(samples), numbers]``; None for others."""
    count = math.prod(shape)
    if not 0 < count <= _FEW or len(samples) < _MANY:
        return None
    numbers = np.asarray(samples)
    plain = isinstance(samples, range) or all(type(sample) is int for sample in samples)
    if not plain or numbers.dtype != np.int64 or numbers.min() < 0:  # each by itself, for the sentence that refuses it
        numbers = np.array([_word("sample", sample) for sample in samples], dtype=np.uint64)
    return philox.words(seed, _stream_key(stream), _word("draw", draw), numbers.astype(np.uint64), count)


def _first_normals(samples: range, count: int) -> NDArray[np.float64]:
    """What NumPy draws first from the streams of seed 0, key 0, draw 0."""
    return np.array([generator.standard_normal(count) for generator in _standing(0, 0, samples, 0)])


def uniform(seed: int, samples: Sequence[int], draw: int, stream: str, shape: tuple[int, ...] = ()) -> torch.Tensor:
    """Uniform numbers in the open interval (0, 1): float64 ``[len(samples), *shape]``, one per sample by default.

    Arguments as in :func:`standard_normal`.
    """
    check_seed(seed)
    # random() lies in [0, 1) in steps of 2^-53; half a step up excludes both ends.
    made = _words(seed, samples, draw, stream, shape)
    if made is not None:
        return torch.from_numpy((philox.uniforms(made) + 2.0**-54).reshape(len(samples), *shape))
    if not shape:
        values = [generator.random() + 2.0**-54 for generator in _generators(seed, samples, draw, stream)]
        return torch.tensor(values, dtype=torch.float64)
    out = np.empty((len(samples), *shape))
    for row, generator in enumerate(_generators(seed, samples, draw, stream)):
        generator.random(out=out[row])
    return torch.from_numpy(out + 2.0**-54)


def permutation(seed: int, draw: int, stream: str, size: int) -> NDArray[np.int64]:
    """A random permutation of ``range(size)``, a pure function of (seed, draw, stream)."""
    check_seed(seed)
    return next(_generators(seed, [0], draw, stream)).permutation(size)
