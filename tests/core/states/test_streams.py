"""Random streams: the same numbers whatever the batching, the order or the process; independent where they must be."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.states import Leaf, NoiseSource, StateSpec, permutation, standard_normal, uniform

SPEC = StateSpec([Leaf("nodes", (5, 3)), Leaf("edges", (5, 5), symmetric=True, zero_diagonal=True, mask_axes=(0, 1))])
SCRIPT = """
import hashlib
from anydiff.states import Leaf, NoiseSource, StateSpec
spec = StateSpec([Leaf("nodes", (5, 3)), Leaf("edges", (5, 5), symmetric=True, zero_diagonal=True, mask_axes=(0, 1))])
x = NoiseSource(spec, 11).draw(range({first}, {last}), 3)
print(hashlib.sha256(x.numpy().tobytes()).hexdigest())
"""


def whole() -> torch.Tensor:
    return NoiseSource(SPEC, 11).draw(range(64), 3)


@pytest.mark.parametrize("size", [1, 7, 8, 64])
def test_batching_changes_no_bit(size):
    source = NoiseSource(SPEC, 11)
    parts = [source.draw(range(64)[i : i + size], 3) for i in range(0, 64, size)]
    assert torch.equal(torch.cat(parts), whole())


def test_order_and_subset_change_no_bit():
    order = list(range(64))
    random.Random(1).shuffle(order)
    shuffled = NoiseSource(SPEC, 11).draw(order, 3)
    assert torch.equal(shuffled, whole()[order])
    assert torch.equal(NoiseSource(SPEC, 11).draw([37], 3)[0], whole()[37])
    assert torch.equal(NoiseSource(SPEC, 11).draw([np.int64(37), torch.tensor(37)], 3), whole()[[37, 37]])


def test_earlier_draws_leave_no_trace():
    source = NoiseSource(SPEC, 11)
    for draw in (9, 0, 3, 1):
        source.draw(range(5), draw)
    assert torch.equal(source.draw(range(64), 3), whole())


def test_two_other_processes_give_the_same_bits():
    halves = []
    for first, last in ((0, 32), (32, 64)):
        script = SCRIPT.format(first=first, last=last)
        halves.append(subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True))
    for half, part in zip(halves, whole().split(32), strict=True):
        answer, _ = half.communicate(timeout=120)
        assert answer.strip() == hashlib.sha256(part.numpy().tobytes()).hexdigest()


def test_known_answer():
    """The generator itself, against NumPy's Philox with the documented key and counter: streams outlive a release."""
    key = int.from_bytes(hashlib.blake2b(b"state", digest_size=8).digest(), "little")
    for seed, sample, draw in itertools.product((0, 2**64 - 1), (0, 2**40), (0, 5)):
        counter = np.array([0, 0, draw, sample], dtype=np.uint64)
        bits = np.random.Philox(counter=counter, key=np.array([seed, key], dtype=np.uint64))
        expected = np.random.Generator(bits).standard_normal(6)
        assert np.array_equal(standard_normal(seed, [sample], draw, "state", (2, 3)).ravel(), expected)


def test_other_seed_sample_draw_or_leaf_is_independent():
    count = 20000
    keys = [(1, 0, 0, "a"), (2, 0, 0, "a"), (1, 1, 0, "a"), (1, 0, 1, "a"), (1, 0, 0, "b"), (0, 1, 1, "a")]
    draws = np.stack([standard_normal(s, [k], d, name, (count,))[0] for s, k, d, name in keys])
    correlation = np.corrcoef(draws) - np.eye(len(keys))
    assert np.abs(correlation).max() < 4.5 / math.sqrt(count)
    squares = np.corrcoef(draws**2) - np.eye(len(keys))
    assert np.abs(squares).max() < 4.5 / math.sqrt(count)
    # across samples, too: the first number of each of many neighbouring streams
    first = standard_normal(1, range(4000), 0, "a", (1,))[:, 0]
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4.5 / math.sqrt(4000)


def kolmogorov_smirnov(values: torch.Tensor, distribution) -> float:
    """√n sup |F_n - F|; above 1.95 with probability 0.001."""
    ordered = distribution(values.double().flatten().sort().values)
    n = ordered.numel()
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return float(math.sqrt(n) * torch.maximum((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def test_law_is_standard_normal_within_and_across_samples():
    long = torch.from_numpy(standard_normal(3, [0], 0, "a", (50000,)))
    across = torch.from_numpy(standard_normal(3, range(5000), 0, "a", (1,)))
    over_draws = torch.cat([torch.from_numpy(standard_normal(3, [0], d, "a", (1,))) for d in range(5000)])
    for values in (long, across, over_draws):
        assert kolmogorov_smirnov(values, torch.special.ndtr) < 1.95


def test_uniform_is_open_unit_interval():
    values = uniform(5, range(5000), 2, "time")
    assert values.dtype == torch.float64
    assert float(values.min()) > 0
    assert float(values.max()) < 1
    assert kolmogorov_smirnov(values, lambda u: u) < 1.95
    assert torch.equal(values[[7, 3]], uniform(5, [7, 3], 2, "time"))


def test_permutation_is_one_and_depends_on_its_key():
    first = permutation(5, 0, "epoch", 100)
    assert sorted(first) == list(range(100))
    assert np.array_equal(first, permutation(5, 0, "epoch", 100))
    assert not np.array_equal(first, permutation(5, 1, "epoch", 100))


def test_precisions_agree_after_a_cast():
    source = NoiseSource(SPEC, 11)
    double = source.draw(range(9), 1, dtype=torch.float64)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(source.draw(range(9), 1, dtype=dtype), double.to(dtype))


def test_symmetric_leaf_has_unit_variance_and_zero_diagonal():
    edges = SPEC.unpack(NoiseSource(SPEC, 4).draw(range(4000), 0, dtype=torch.float64))["edges"]
    assert torch.equal(edges, edges.transpose(1, 2))
    assert bool((edges.diagonal(dim1=1, dim2=2) == 0).all())
    upper = edges[:, *torch.triu_indices(5, 5, 1)]
    # a variance of 4000 normal numbers has standard deviation √(2/4000) = 0.022
    assert float((upper.var(dim=0) - 1).abs().max()) < 0.1
    assert kolmogorov_smirnov(upper, torch.special.ndtr) < 1.95
    assert float(torch.corrcoef(upper.T).fill_diagonal_(0).abs().max()) < 0.08


def test_symmetric_leaf_with_features_mirrors_whole_vectors():
    spec = StateSpec.single((4, 4, 3), symmetric=True)
    noise = NoiseSource(spec, 0).draw(range(3), 0)
    assert torch.equal(noise, noise.transpose(1, 2))
    assert bool((noise != 0).all())


def test_mask_zeroes_absent_nodes_and_changes_nothing_else():
    mask = torch.arange(5)[None, :] < torch.tensor([5, 3, 1])[:, None]
    free = SPEC.unpack(NoiseSource(SPEC, 4).draw(range(3), 0))["edges"]
    held = SPEC.unpack(NoiseSource(SPEC, 4, mask=mask).draw(range(3), 0))
    both = mask[:, :, None] & mask[:, None, :]
    assert torch.equal(held["edges"], free * both)
    assert bool((held["nodes"] != 0).all())  # no mask axes: untouched


@pytest.mark.parametrize("seed", [-1, 1.0, 2**64, True, "7", None])
def test_bad_seeds(seed):
    with pytest.raises(AnydiffError, match="seed") as caught:
        NoiseSource(SPEC, seed)
    assert repr(seed) in str(caught.value)
    with pytest.raises(AnydiffError, match="seed"):
        uniform(seed, [0], 0, "time")


def test_greatest_seed_and_numpy_seed():
    assert torch.isfinite(NoiseSource(SPEC, 2**64 - 1).draw([0], 0)).all()
    assert torch.equal(NoiseSource(SPEC, np.int64(11)).draw(range(64), 3), whole())


@pytest.mark.parametrize("sample", [-1, 1.5, 2**64, "a"])
def test_bad_sample_indices(sample):
    with pytest.raises(AnydiffError, match="sample"):
        NoiseSource(SPEC, 0).draw([0, sample], 0)
