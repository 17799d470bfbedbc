"""Free baselines: what a model must beat to have learned structure. Each is ``f(training, condition, count, seed)``."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Dataset
from anydiff.states import Conditioning

_ROWS = 4096


def _masks(training: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The masks asked for, or sizes of training examples drawn with replacement."""
    if condition.mask is not None:
        return condition.mask.bool()
    rows = np.random.default_rng([seed, 1]).integers(len(training), size=count).tolist()
    return _sizes(training, rows)[1]


def _sizes(training: Dataset, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """States of these examples and which nodes each has, bool ``[B, N]``."""
    states, condition = training.batch(rows)
    assert condition.mask is not None
    return states, condition.mask


def marginal(training: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """States whose nodes and edges are drawn independently, with the frequencies of training graphs of the same size.

    Knows sizes, kinds and densities of the data and nothing of how they fit together.
    """
    spec = training.spec
    states, there = _sizes(training, range(min(len(training), _ROWS)))
    sizes = there.sum(1)
    mask = _masks(training, condition, count, seed)
    generator = np.random.default_rng([seed, 2])
    views = spec.unpack(states.contiguous())

    @functools.cache
    def shares(size: int) -> dict[str, NDArray[np.float64]]:
        """Frequencies of each leaf's classes in training graphs of the nearest size, what is left to 1 the last."""
        near = (sizes - size).abs() == (sizes - size).abs().min()
        present = there[near]
        found = {}
        for leaf in spec.leaves:
            if leaf.symmetric:
                entries = present[:, :, None] & present[:, None, :] & ~torch.eye(leaf.shape[0], dtype=torch.bool)
            else:
                entries = present
            values = views[leaf.name][near][entries]
            share = values.reshape(len(values), -1).double().mean(0).numpy()
            share = np.append(share, max(0.0, 1 - share.sum()))
            found[leaf.name] = share / share.sum()
        return found

    out = {leaf.name: torch.zeros(count, *leaf.shape) for leaf in spec.leaves}
    for row in range(count):
        for leaf in spec.leaves:
            share = shares(int(mask[row].sum()))[leaf.name]
            if leaf.symmetric:
                full = _one_hot(share, leaf.shape[0] ** 2, generator).reshape(leaf.shape[0], leaf.shape[0], -1)
                full = full * torch.triu(torch.ones(leaf.shape[:2]), 1)[..., None]
                out[leaf.name][row] = (full + full.transpose(0, 1)).reshape(leaf.shape)
            else:
                out[leaf.name][row] = _one_hot(share, leaf.shape[0], generator)
    return spec.pack({leaf.name: leaf.zero_out(out[leaf.name], mask) for leaf in spec.leaves})


def _one_hot(share: NDArray[np.float64], count: int, generator: np.random.Generator) -> Tensor:
    """``count`` one-hot rows drawn by ``share``; the last class is a row of zeros."""
    drawn = torch.from_numpy(generator.choice(len(share), size=count, p=share))
    return torch.nn.functional.one_hot(drawn, len(share))[:, :-1].float()


def erdos_renyi(training: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """Random graphs of the sizes asked for, with the mean density of the training graphs, encoded like them."""
    import networkx as nx

    densities = [nx.density(graph) for graph in training.graphs]  # type: ignore[attr-defined]
    chance = float(np.mean(densities))
    sizes = _masks(training, condition, count, seed).sum(1).tolist()
    graphs = [nx.gnp_random_graph(int(size), chance, seed=seed * 100_003 + row) for row, size in enumerate(sizes)]
    return training.domain.encode(graphs)
