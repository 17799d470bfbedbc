"""How many nodes a sample has: drawn from a histogram, each sample from its own random stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.states import Conditioning, StateSpec, uniform


def sampled_mask(counts: Sequence[float] | None, size: int, samples: Sequence[int], seed: int) -> Tensor:
    """Bool ``[B, size]``: the first n nodes exist, n drawn with weights ``counts`` of 1, 2, ..., ``size``.

    n of sample k is a pure function of (seed, k); without ``counts`` every node exists.

    Raises:
        AnydiffError: not one weight per size, or no positive one.
    """
    if counts is None:
        return torch.ones(len(samples), size, dtype=torch.bool)
    weights = np.asarray(counts, dtype=np.float64)
    if weights.shape != (size,) or (weights < 0).any() or not weights.sum() > 0:
        raise AnydiffError(
            f"counts holds {weights.size} weights, but must give one, not negative, for each of 1 to {size} nodes."
        )
    edges = np.cumsum(weights) / weights.sum()
    drawn = np.searchsorted(edges, uniform(seed, samples, 0, "node count").numpy(), side="right")
    return torch.arange(size) <= torch.from_numpy(np.minimum(drawn, np.flatnonzero(weights)[-1])).reshape(-1, 1)


def decodable(spec: StateSpec, states: Tensor, condition: Conditioning | None, what: str) -> tuple[Tensor, Tensor]:
    """(states on the host, which nodes are there ``[B, N]``): what both codecs read.

    Absent nodes are those that ``condition.mask`` says, or without it those whose entries are all zero.

    Raises:
        AnydiffError: states of another shape or with values that are not finite, named ``what`` in the sentence.
    """
    spec.check(states)
    if not states.isfinite().all():
        raise AnydiffError(f"the states hold a value that is not finite, so they are no {what}; look at the sampler.")
    states = states.detach().cpu().contiguous()
    mask = None if condition is None else condition.mask
    return states, spec.mask_of(states) if mask is None else spec.check_mask(mask).cpu().bool()


def histogram(counts: Sequence[int] | Tensor, size: int) -> list[float]:
    """Share of graphs with 1, 2, ..., ``size`` nodes, rounded to five digits."""
    found = np.bincount(np.asarray(counts), minlength=size + 1)[1 : size + 1]
    return [round(float(share), 5) for share in found / found.sum()]
