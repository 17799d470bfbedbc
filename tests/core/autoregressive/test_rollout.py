"""The outer loop: exact arithmetic, what may be seen, what stays, and an AR(1) process drawn by an exact denoiser."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anydiff.autoregressive import Sampled, rollout
from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.paths import VPCosine


def successor(context):
    """next = last + 1, a deterministic toy, counted from any element that is known."""
    place = torch.arange(context.known.shape[1])
    last = torch.where(context.known, place, -1).amax(dim=1)
    values = context.values[torch.arange(len(last)), last]
    axes = [1] * (values.ndim - 1)
    distance = torch.arange(context.targets.start, context.targets.stop) - last[:, None]
    return values[:, None] + distance.reshape(*distance.shape, *axes)


@given(
    length=st.integers(2, 7),
    block=st.integers(1, 3),
    given_mask=st.integers(0, 2**6 - 1),
    shape=st.sampled_from([(), (2, 3)]),
)
def test_arithmetic_is_continued_exactly_and_what_is_given_stays(length, block, given_mask, shape):
    truth = torch.arange(length, dtype=torch.float64) + 10
    truth = truth.reshape(1, length, *[1] * len(shape)).expand(2, length, *shape).clone()
    truth[1] += 100
    known = torch.tensor(
        [[True] + [bool(given_mask >> i & 1) for i in range(length - 1)], [True] + [False] * (length - 1)]
    )
    values = torch.where(known.reshape(2, length, *[1] * len(shape)), truth, float("nan"))
    before = values.clone()
    done = rollout(successor, values, known, block=block)
    assert torch.equal(done.values, truth)
    assert done.known.all()
    assert torch.equal(done.drawn, ~known)
    assert torch.equal(values.nan_to_num(-1), before.nan_to_num(-1)), "the input is left as it was"


def seen_by(values, known, **options):
    """What each block may look at, by its first position."""
    seen = {}

    def look(context):
        seen[context.targets.start] = context.known.clone()
        assert (context.values[~context.known] == 0).all(), "what is not known is shown as zero"
        return context.values.new_full((len(context.rows), len(context.targets)), 7.0)

    rollout(look, values, known, **options)
    return seen


def test_only_the_past_is_seen_and_within_the_window():
    values, known = torch.arange(6.0)[None], torch.tensor([[True, True, False, False, True, False]])
    assert seen_by(values, known)[2].tolist() == [[True, True, False, False, False, False]]
    assert seen_by(values, known, window=1)[3].tolist() == [[False, False, True, False, False, False]]
    assert seen_by(values, known, causal=False)[2].tolist() == [[True, True, False, False, True, False]]
    gap = seen_by(values, known, positions=[3, 5])
    assert gap[3].tolist() == [[True, True, False, False, False, False]], "a gap that is not filled stays a gap"
    assert gap[5].tolist() == [[True, True, False, True, True, False]]


def test_rows_that_need_nothing_are_not_drawn_and_keep_their_numbers():
    calls = []

    def draw(context):
        calls.append((context.targets.start, context.rows, context.seed))
        return context.values.new_tensor([[100.0 + row] for row in context.rows])

    values = torch.zeros(3, 3)
    known = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
    done = rollout(draw, values, known, seed=5)
    assert [(start, rows) for start, rows, _ in calls] == [(1, [1, 2]), (2, [2])]
    assert done.values.tolist() == [[0, 0, 0], [0, 101, 0], [0, 102, 102]]
    assert calls[0][2] != calls[1][2], "each block has a seed of its own"
    again = dict((start, seed) for start, _, seed in calls)
    calls.clear()
    rollout(draw, values[2:], known[2:], seed=5)
    assert dict((start, seed) for start, _, seed in calls) == again, "which does not depend on what else is drawn"


class NextGaussian(GaussianOracle):
    """x_j | x_{j-1} ~ N(rho x_{j-1}, 1 - rho^2), exactly."""

    def __init__(self, path, rho):
        super().__init__(path, torch.zeros(1), 1 - rho**2)
        self.rho = rho

    def native(self, x, t, condition):
        return self.posterior_mean(x, t, self.rho * condition.given["last"].to(x.dtype))


def last_value(context):
    return {"last": context.values[:, context.targets.start - 1]}


def test_an_exact_inner_sampler_gives_the_law_of_the_process():
    rho, rows, length = 0.8, 4000, 4
    values = torch.zeros(rows, length, 1, dtype=torch.float64)
    values[:, 0, 0] = torch.randn(rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    known = torch.zeros(rows, length, dtype=torch.bool)
    known[:, 0] = True
    draw = Sampled(NextGaussian(VPCosine(), rho), (1,), last_value, nfe=24, batch_size=rows)
    done = rollout(draw, values, known, seed=1).values[..., 0]
    covariance = done.T @ done / rows
    expected = rho ** (torch.arange(length)[:, None] - torch.arange(length)).abs().double()
    assert torch.allclose(covariance, expected, atol=4.5 / rows**0.5), "within 4.5 standard errors at most"


def test_a_sample_does_not_depend_on_the_others():
    known = torch.zeros(6, 3, dtype=torch.bool)
    known[:, 0] = True
    values = torch.randn(6, 3, 1, generator=torch.Generator().manual_seed(3))
    denoiser = NextGaussian(VPCosine(), 0.5)
    all_rows = rollout(Sampled(denoiser, (1,), last_value, nfe=6), values, known, seed=2).values
    order = torch.tensor([4, 1, 5])
    some = rollout(Sampled(denoiser, (1,), last_value, order.tolist(), nfe=6), values[order], known[order], seed=2)
    assert torch.allclose(some.values, all_rows[order], atol=1e-6)
    chunked = rollout(Sampled(denoiser, (1,), last_value, nfe=6, batch_size=2), values, known, seed=2).values
    assert torch.allclose(chunked, all_rows, atol=1e-6)


def test_bad_input_is_one_sentence():
    values, known = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    for options, message in [
        ({"positions": [2, 1]}, "must ascend"),
        ({"positions": [3]}, "within 0 to 2"),
        ({"block": 0}, "block is 0"),
        ({"window": 0}, "window is 0"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            rollout(successor, values, ~known, **options)
    with pytest.raises(AnydiffError, match=r"known is torch\.float32"):
        rollout(successor, values, known.float())
    with pytest.raises(AnydiffError, match="one entry per row and position"):
        rollout(successor, values, known[:, :2])
    with pytest.raises(AnydiffError, match="the inner sampler gave"):
        rollout(lambda context: torch.zeros(1), values, ~known)
    with pytest.raises(AnydiffError, match="seed is set by the outer loop"):
        Sampled(NextGaussian(VPCosine(), 0.5), (1,), last_value, seed=3)
    with pytest.raises(AnydiffError, match="2 entries, but positions 0 to 0 hold 1"):
        rollout(Sampled(NextGaussian(VPCosine(), 0.5), (2,), last_value), values, ~known)
