"""Speculation keeps the target's law: Gaussians, tables, paths of a diffusion, a chain verified causally."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from anydiff.autoregressive import Densities, PathLaw, PathPair, Tables, inverse_cdf, speculate, verify
from anydiff.denoisers import GaussianMixtureOracle
from anydiff.errors import AnydiffError
from anydiff.paths import VPCosine
from anydiff.solvers import compile_plan
from anydiff.states import NoiseSource, StateSpec

MANY = 200_000


def numbers(seed):
    return torch.Generator().manual_seed(seed)


def uniform(seed, rows=MANY):
    return lambda number: torch.rand(rows, dtype=torch.float64, generator=numbers(1000 * seed + number)).clamp(1e-16)


def gaussians(q, p, seed=0, rows=MANY, **options):
    """Proposals of N(q) judged by N(p), each (mean, deviation)."""
    one, two = (torch.distributions.Normal(torch.tensor(m).double(), torch.tensor(s).double()) for m, s in (q, p))
    proposal = torch.randn(rows, dtype=torch.float64, generator=numbers(seed)) * q[1] + q[0]
    draw = lambda k: torch.randn(rows, dtype=torch.float64, generator=numbers(7000 + 100 * seed + k)) * p[1] + p[0]  # noqa: E731
    return proposal, verify(Densities(two.log_prob, one.log_prob, draw), proposal, uniform(seed + 1, rows), **options)


def overlap(q, p):
    """1 - TV of two normal laws, by quadrature."""
    x = np.linspace(-30, 30, 400_001)
    return float(np.minimum(stats.norm.pdf(x, *q), stats.norm.pdf(x, *p)).sum() * (x[1] - x[0]))


def test_gaussians_are_accepted_as_their_laws_overlap_and_come_out_as_the_target():
    """The sheet's A: acceptance within 0.005 of 1 - TV = 0.765, KS below 0.005; temperature 42 is the draft."""
    q, p = (0.0, 1.0), (0.5, 0.8)
    _, verdict = gaussians(q, p)
    assert float(verdict.accepted.double().mean()) == pytest.approx(overlap(q, p), abs=0.005)
    assert stats.kstest(verdict.values.numpy(), stats.norm(*p).cdf).statistic < 0.005
    with pytest.warns(UserWarning, match="no longer of the target's law"):
        _, hot = gaussians(q, p, rows=20_000, temperature=42.0)
    assert float(hot.accepted.double().mean()) > 0.98
    assert stats.kstest(hot.values.numpy(), stats.norm(*p).cdf).statistic > 0.1


def test_equal_laws_accept_everything_and_disjoint_ones_nothing():
    proposal, verdict = gaussians((0.3, 1.2), (0.3, 1.2), rows=5000)
    assert bool(verdict.accepted.all())
    assert torch.equal(verdict.values, proposal)
    assert int(verdict.tries.sum()) == 0
    _, verdict = gaussians((0.0, 1.0), (20.0, 1.0), rows=20_000)
    assert float(verdict.accepted.double().mean()) < 1e-3
    assert stats.kstest(verdict.values.numpy(), stats.norm(20, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("pair", [((0.2, 0.7), (-0.4, 1.1)), ((1.0, 2.0), (0.0, 0.5)), ((0.0, 1.0), (0.1, 0.9))])
def test_acceptance_is_the_overlap_of_the_laws(pair):
    _, verdict = gaussians(*pair, rows=20_000)
    assert float(verdict.accepted.double().mean()) == pytest.approx(overlap(*pair), abs=0.012)


def test_tables_are_standard_speculative_sampling():
    q, p = torch.tensor([0.5, 0.3, 0.15, 0.05, 0]), torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15])
    rows, q, p = 100_000, q.double() / q.sum().double(), p.double() / p.double().sum()
    tables = [table.log().expand(rows, -1) for table in (p, q)]
    draft = inverse_cdf(tables[1], uniform(50, rows)(0))
    verdict = verify(Tables(*tables, uniform(60, rows)), draft, uniform(70, rows))
    assert float(verdict.accepted.double().mean()) == pytest.approx(float(torch.minimum(p, q).sum()), abs=0.006)
    counts = np.bincount(verdict.values.numpy(), minlength=5)
    assert stats.chisquare(counts, p.numpy() * rows).pvalue > 0.01


def test_where_no_residual_is_found_a_fresh_draw_of_the_target_is_taken_and_never_zeros():
    _, verdict = gaussians((0.0, 1.0), (0.02, 1.0), rows=50_000, tries=1)
    assert bool((verdict.values != 0).all())
    assert stats.kstest(verdict.values.numpy(), stats.norm(0.02, 1).cdf).statistic < 0.01


def test_log_ratios_of_a_thousand_numbers_are_finite_and_of_one_mind_in_both_precisions():
    rows, size = 4000, 1024
    x = torch.randn(rows, size, dtype=torch.float64, generator=numbers(3))

    def ratio(x):
        return ((x**2).sum(1) - ((x - 0.02) ** 2).sum(1) * 1.02) / 2 + size / 2 * math.log(1.02)

    exact, single = ratio(x), ratio(x.float()).double()
    assert bool(torch.isfinite(single).all())
    u = uniform(9, rows)(0).log()
    assert float(((u < exact) == (u < single)).double().mean()) > 0.999
    whole = Densities(lambda x: -((x - 0.5) ** 2).sum(1) * 50, lambda x: -(x**2).sum(1) * 50, lambda k: x[:64] + 0.5)
    verdict = verify(whole, x[:64], uniform(11, 64), tries=3)
    assert bool(torch.isfinite(verdict.values).all())


PATH = VPCosine()
PLAN = compile_plan("ddpm", PATH, 10, grid="time", end="stop")


def heads(rows, seed):
    """Target and draft with two modes at ±1, the weights 0.6 and 0.4 swapped; starts and noises of each attempt."""
    means = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    shares = (torch.tensor([0.6, 0.4]), torch.tensor([0.4, 0.6]))
    target, draft = (PathLaw(PLAN, GaussianMixtureOracle(PATH, means, 0.4, share)) for share in shares)

    def begin(attempt):
        source = NoiseSource(StateSpec.single((1,)), 10_000 * seed + attempt)
        return source.draw(range(rows), 0, torch.float64), source

    return target, draft, begin


def test_paths_of_a_diffusion_are_accepted_whole_and_samples_are_the_targets():
    """The sheet's B: acceptance in [0.65, 0.75] (0.697); the draft alone misses P(x > 0) by a quarter."""
    rows = 5000
    target, draft, begin = heads(rows, 1)
    start, noise = begin(999)
    proposal = draft.draw(start, noise, range(rows))
    pair = PathPair(target, draft, begin, range(rows))
    verdict = verify(pair, proposal, uniform(5, rows))
    drawn = target.draw(*begin(5000), range(rows)).end(PLAN)
    x, guess = verdict.values.end(PLAN), proposal.end(PLAN)
    error = 3 * (0.25 / rows * 2) ** 0.5
    assert 0.65 <= float(verdict.accepted.double().mean()) <= 0.75
    assert float((x > 0).double().mean()) == pytest.approx(float((drawn > 0).double().mean()), abs=error)
    assert float(x.mean()) == pytest.approx(float(drawn.mean()), abs=3 * float(drawn.std()) * (2 / rows) ** 0.5)
    assert float((drawn > 0).double().mean() - (guess > 0).double().mean()) == pytest.approx(0.25, abs=0.03)


def test_the_log_probability_of_a_path_is_read_from_its_plan():
    target, draft, begin = heads(50, 2)
    start, noise = begin(0)
    path = draft.draw(start, noise, range(50))
    drawn = [noise.draw(range(50), number, torch.float64) for number in range(1, PLAN.draws + 1)]
    squared = sum(each.square().sum(1) for each in drawn)
    assert torch.allclose(draft.log_prob(path), -squared / 2), "of its own law it is that of the noise"
    calls = []
    plain = target.denoiser.predict
    target.denoiser.predict = lambda x, *rest: (calls.append(len(x)), plain(x, *rest))[1]
    target.log_prob(path)
    assert calls == [50 * PLAN.nfe], "one batched call for all times"


class Innovations:
    """x_1 ~ N(0, 1), x_j | x_{j-1} ~ N(ρ x_{j-1}, 1 - ρ²)."""

    length = 16

    def __init__(self, rho):
        self.rho = rho

    def hidden(self, values, positions):
        before = values.gather(1, (positions - 1).clamp(min=0)[..., None].expand(-1, -1, values.shape[2]))
        first = (positions == 0)[..., None]
        mean = torch.where(first, 0.0, self.rho * before)
        return torch.cat([mean, torch.where(first, 1.0, (1 - self.rho**2) ** 0.5).expand_as(mean)], dim=-1)

    def draw(self, hidden, noise):
        return hidden[:, :1] + hidden[:, 1:] * noise

    def log_prob(self, hidden, x):
        return torch.distributions.Normal(hidden[:, :1], hidden[:, 1:]).log_prob(x).sum(1)


def assert_chain(values, rho):
    """Slope and variance of one step, over all positions, within 3.5 standard errors; so is the first variance."""
    x = values[..., 0]
    before, after = x[:, :-1].flatten(), x[:, 1:].flatten()
    slope = float((before @ after) / (before @ before))
    left, count = float((after - slope * before).var()), len(before)
    assert slope == pytest.approx(rho, abs=3.5 * ((1 - rho**2) / count) ** 0.5)
    assert left == pytest.approx(1 - rho**2, rel=3.5 * (2 / count) ** 0.5)
    assert float(x[:, 0].var()) == pytest.approx(1, rel=3.5 * (2 / len(x)) ** 0.5)


def test_a_chain_verified_causally_has_the_law_of_the_target():
    """The sheet's C: the target's law, at most half of the passes of sequential decoding."""
    rows = 1000
    done = speculate(Innovations(0.9), Innovations(0.8), range(rows), seed=3)
    assert_chain(done.values, 0.9)
    assert_chain(speculate(Innovations(0.8), Innovations(0.8), range(rows), seed=3).values, 0.8)
    assert float(done.passes.double().mean()) <= 8
    assert bool((done.accepted <= done.proposed).all())
    same = speculate(Innovations(0.9), Innovations(0.9), range(50), seed=3)
    assert int(same.passes.max()) == 4, "16 positions of five each: an equal draft is never replaced"
    assert torch.equal(same.accepted, same.proposed)


@pytest.mark.parametrize("ahead", [1, 4])
def test_sample_37_alone_is_sample_37_of_64(ahead):
    whole = speculate(Innovations(0.9), Innovations(0.8), range(64), seed=5, draft_length=ahead)
    alone = speculate(Innovations(0.9), Innovations(0.8), [37], seed=5, draft_length=ahead)
    assert torch.equal(alone.values[0], whole.values[37])
    assert int(alone.passes[0]) == int(whole.passes[37])


def test_a_draft_of_one_position_has_the_sequential_law():
    assert_chain(speculate(Innovations(0.9), Innovations(0.8), range(1000), seed=1, draft_length=1).values, 0.9)


def test_bad_input_is_one_sentence():
    target, draft, begin = heads(3, 0)
    for plan, message in (
        (compile_plan("ddim", PATH, 10), "draws no noise"),
        (compile_plan("ddpm", PATH, 10, end="denoise"), "ends in a step without noise"),
    ):
        with pytest.raises(AnydiffError, match=message):
            PathLaw(plan, target.denoiser)
    other = PathLaw(compile_plan("ddpm", PATH, 9, end="stop"), draft.denoiser)
    with pytest.raises(AnydiffError, match=r"the target's plan is .* with 10 calls, the draft's .* with 9"):
        PathPair(target, other, begin, range(3))
    short = Innovations(0.8)
    short.length = 8
    with pytest.raises(AnydiffError, match="the target has 16 positions, the draft 8"):
        speculate(Innovations(0.9), short, range(2))
    with pytest.raises(AnydiffError, match="draft_length is 0"):
        speculate(Innovations(0.9), Innovations(0.8), range(2), draft_length=0)
    with pytest.raises(AnydiffError, match="temperature is 0"):
        speculate(Innovations(0.9), Innovations(0.8), range(2), temperature=0)
    with pytest.raises(AnydiffError, match="the log-ratio of row 0 is NaN"):
        verify(Densities(lambda x: x * math.nan, lambda x: x, lambda k: torch.zeros(2)), torch.zeros(2), uniform(0, 2))
    with pytest.raises(AnydiffError, match="the target's table has shape"):
        Tables(torch.zeros(2, 3), torch.zeros(2, 4), uniform(0, 2))
