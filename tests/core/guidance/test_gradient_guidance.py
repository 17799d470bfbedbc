"""Guidance by a reward's gradient: exact posteriors, supports, targets per row whatever the chunk, refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import gradient_checks as held
import pytest
import torch
from exact import PATHS, Counting
from gradient_checks import COVARIANCE, DIRECTION, MEAN, NOISE_STD, TARGET, states
from torch import nn

import anydiff.guidance.base as base
import anydiff.guidance.gradient as gradient
from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle, GaussianOracle, NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance import ClassifierFree, LookAhead, NaiveGradient
from anydiff.paths import VPCosine, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan, execute
from anydiff.states import UNCONDITIONAL, Conditioning


@pytest.mark.parametrize("name", sorted(PATHS))
def test_look_ahead_is_the_posterior_on_every_path(name):
    held.check_posterior(PATHS[name])


@pytest.mark.parametrize("path", [VPLinear(), VPCosine()], ids=["linear", "cosine"])
def test_all_forms_agree_where_the_covariance_is_the_identity(path):
    held.check_identity(path)


@pytest.mark.parametrize("name", ["vp-linear", "ve"])
def test_look_ahead_keeps_to_the_support_and_naive_leaves_it(name):
    held.check_support(PATHS[name])


def test_the_law_of_the_samples_is_the_posterior():
    """N(μ + S g r, S - S g gᵀ S/c); a deterministic plan is affine in x_T here, so its law is known as it is."""
    path = VPCosine()
    guided = LookAhead(DIRECTION, TARGET, NOISE_STD)(GaussianOracle(path, MEAN, COVARIANCE))
    basis = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    out = execute(compile_plan("dpm-solver++-2m", path, 400), guided, basis)
    columns = (out[1:] - out[0]) * path.prior_std
    along = COVARIANCE @ DIRECTION
    total = NOISE_STD**2 + DIRECTION @ along
    mean = MEAN + along * (TARGET - DIRECTION @ MEAN) / total
    torch.testing.assert_close(out[0], mean, rtol=0, atol=4e-3)
    torch.testing.assert_close(columns.T @ columns, COVARIANCE - along[:, None] * along / total, rtol=0, atol=4e-3)


def test_slope_and_variance_are_those_of_the_gaussian():
    """q = α S (α² S + σ² I)^-1 g, and the variance of g·x_0 given x_t is gᵀ (S - α² S (α² S + σ² I)^-1 S) g."""
    path, t = VPLinear(), 0.4
    prior, x = GaussianOracle(path, MEAN, COVARIANCE), states()
    alpha, sigma = path.alpha(t), path.sigma(t)
    gain = torch.linalg.solve(alpha**2 * COVARIANCE + sigma**2 * torch.eye(3, dtype=torch.float64), COVARIANCE)
    slope = alpha * gain @ DIRECTION
    left = DIRECTION @ (COVARIANCE - alpha**2 * COVARIANCE @ gain) @ DIRECTION
    guidance = LookAhead(DIRECTION, TARGET, NOISE_STD)
    given = (DIRECTION.expand(4, 3), *(torch.full((4,), value, dtype=torch.float64) for value in (TARGET, NOISE_STD)))
    _, pull = guidance.pull(prior, x, t, UNCONDITIONAL, *given)
    expected = slope * ((TARGET - prior(x, t) @ DIRECTION) / (NOISE_STD**2 + left))[:, None]
    torch.testing.assert_close(pull, expected, rtol=1e-9, atol=1e-9)


def test_a_target_that_is_met_changes_nothing():
    oracle, x = GaussianMixtureOracle(VPLinear(), states(3), 0.3), states()
    met = (oracle(x, 0.4) * DIRECTION).sum(1)
    for made in (LookAhead, NaiveGradient):
        torch.testing.assert_close(made(DIRECTION, met)(oracle)(x, 0.4), oracle(x, 0.4), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("made", [LookAhead, NaiveGradient])
def test_the_trajectory_is_the_same_in_every_parametrisation(made):
    path = VPLinear()
    oracle = GaussianMixtureOracle(path, states(3), 0.3)
    options = {"nfe": 10, "dtype": torch.float64, "guidance": made(DIRECTION, TARGET, NOISE_STD)}
    expected = sample(oracle, (3,), 4, **options)
    for kind in held.KINDS:
        given = FunctionDenoiser(lambda x, t, kind=kind: oracle.predict(x, t, kind), path, kind)
        torch.testing.assert_close(sample(given, (3,), 4, **options), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("made", [LookAhead, NaiveGradient])
def test_rows_have_their_own_directions_and_targets_whatever_the_chunk(made):
    oracle = GaussianMixtureOracle(VPLinear(), states(3), 0.3)
    options = {"nfe": 6, "dtype": torch.float64, "solver": "ddpm"}
    guidance = made(states(5), torch.arange(5.0), 0.1 + torch.arange(5.0, dtype=torch.float64))
    whole = sample(oracle, (3,), 5, guidance=guidance, **options)
    for rows in (1, 2, 3):
        parts = sample(oracle, (3,), 5, guidance=guidance, batch_size=rows, **options)
        torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    alone = sample(oracle, (3,), [3], guidance=made(states(5)[3], 3.0, 3.1), **options)
    torch.testing.assert_close(alone[0], whole[3], rtol=1e-9, atol=1e-9)
    some = made(
        states(5)[[4, 1]], torch.tensor([4.0, 1.0]), torch.tensor([4.1, 1.1], dtype=torch.float64), samples=(4, 1)
    )
    torch.testing.assert_close(sample(oracle, (3,), [4, 1], guidance=some, **options), whole[[4, 1]])
    with pytest.raises(AnydiffError, match="none for sample 2"):
        sample(oracle, (3,), [2, 1], guidance=some, **options)


def test_inside_classifier_free_guidance_each_row_finds_its_own():
    oracle = GaussianMixtureOracle(VPLinear(), states(3), 0.3)
    label = torch.tensor([0, 1, 2, 1])
    options = {"nfe": 5, "dtype": torch.float64}
    free = ClassifierFree(1.5)
    whole = sample(
        oracle, (3,), 4, condition={"label": label}, guidance=[LookAhead(states(), torch.ones(4)), free], **options
    )
    for row in range(4):
        one = [LookAhead(states()[row], 1.0), free]
        alone = sample(oracle, (3,), [row], condition={"label": label[row : row + 1]}, guidance=one, **options)
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("made", [LookAhead, NaiveGradient])
def test_infinite_noise_asks_for_nothing(made):
    counting = Counting(GaussianMixtureOracle(VPLinear(), states(3), 0.3))
    plain = sample(counting, (3,), 4, nfe=5, solver="dpm-solver++-2m")
    calls = len(counting.calls)
    assert torch.equal(
        sample(counting, (3,), 4, nfe=5, solver="dpm-solver++-2m", guidance=made(1.0, 2.0, math.inf)), plain
    )
    assert len(counting.calls) == 2 * calls == 10


def test_differentiable_through_the_sampler():
    guided = LookAhead(DIRECTION, TARGET, 0.5)(GaussianMixtureOracle(VPLinear(), states(3), 0.3))
    plan, start, step = compile_plan("ddim", VPLinear(), 4), states(2).requires_grad_(), 1e-5
    execute(plan, guided, start, differentiable=True).sum().backward()
    nudge = torch.zeros(2, 3, dtype=torch.float64)
    nudge[:, 1] = step
    with torch.no_grad():
        ends = [execute(plan, guided, start + sign * nudge).sum(1) for sign in (1, -1)]
    torch.testing.assert_close(start.grad[:, 1], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_no_graph_is_kept_inside_a_sampler():
    network = NetworkDenoiser(Scaled(), VPLinear())
    for made in (LookAhead, NaiveGradient):
        with torch.no_grad():
            value = made(1.0, 2.0)(network)(states(), 0.4)
        assert not value.requires_grad
        with torch.inference_mode():
            assert torch.equal(made(1.0, 2.0)(network)(states(), 0.4), value)
    assert network.network.weight.grad is None


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x, log_snr, condition):
        return torch.tanh(self.weight * x)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"direction": math.nan}, "direction is nan"),
        ({"target": math.inf}, "target is inf"),
        ({"noise_std": 0.0}, "noise_std is 0, but must be above 0"),
        ({"noise_std": torch.tensor([0.1, -2.0])}, "noise_std is -2 in one of 2 places"),
        ({"direction": "up"}, "direction is 'up', which is no array of numbers"),
        ({"target": torch.ones(3), "noise_std": torch.ones(2)}, "give one number each, or one per sample"),
        ({"target": torch.ones(3), "samples": (0, 1)}, "give one number each, or one per sample"),
        ({"target": torch.ones(2, 2)}, "give one number each, or one per sample"),
    ],
)
def test_bad_options(options, said):
    for made in (LookAhead, NaiveGradient):
        with pytest.raises(AnydiffError, match=said):
            made(**{"direction": 1.0, "target": 1.0, **options})


def test_what_does_not_fit_the_states():
    oracle = GaussianOracle(VPLinear(), MEAN, COVARIANCE)
    with pytest.raises(UnknownNameError, match="variance of look-ahead guidance"):
        LookAhead(1.0, 1.0, variance="exakt")
    with pytest.raises(AnydiffError, match=r"direction has shape \[2\], but one state has \[3\]"):
        LookAhead(torch.ones(2), 1.0)(oracle)(states(), 0.4)
    with pytest.raises(AnydiffError, match=r"direction has shape \[1, 4, 3\], but one state has \[3\]"):
        LookAhead(torch.ones(1, 4, 3), 1.0)(oracle)(states(), 0.4)
    with pytest.raises(AnydiffError, match="has 5 rows, but this batch has 4"):
        LookAhead(1.0, torch.ones(5))(oracle)(states(), 0.4)
    with pytest.raises(AnydiffError, match="give one row per sample"):
        LookAhead(torch.ones(4, 3), torch.ones(5))(oracle)(states(), 0.4, Conditioning(index=torch.arange(4)))
    with pytest.raises(AnydiffError, match="does not depend on the state"):
        LookAhead(1.0, 1.0)(FunctionDenoiser(lambda x, t: x.detach(), VPLinear()))(states(), 0.4)


@dataclass(frozen=True)
class Mutant:
    """``owner.attribute`` becomes ``change(original)``; ``check`` must then fail."""

    name: str
    owner: object
    attribute: str
    change: object
    check: object


def by(factor):
    return lambda original: lambda *arguments: factor(*arguments) * original(*arguments)


def without_network(original):
    """The naive direction in place of the gradient through the network."""

    def pull(self, denoiser, x, t, condition, direction, target, noise_std):
        native, pull = original(self, denoiser, x, t, condition, direction, target, noise_std)
        size = (pull * direction).sum(1, keepdim=True) / direction.square().sum(1, keepdim=True)
        return native, size * direction

    return pull


def without_alpha(original):
    def pull(self, denoiser, x, t, *given):
        native, pull = original(self, denoiser, x, t, *given)
        return native, pull / denoiser.path.alpha(t)

    return pull


LINEAR = PATHS["vp-linear"]
MUTANTS = [
    Mutant(
        "missing sigma in guidance",
        gradient,
        "score_unit",
        by(lambda denoiser, t, kind: 1 / denoiser.path.sigma(torch.as_tensor(t, dtype=torch.float64))),
        lambda: held.check_posterior(LINEAR),
    ),
    Mutant(
        "wrong sign of the pull",
        LookAhead,
        "pull",
        lambda original: lambda *given: (lambda native, pull: (native, -pull))(*original(*given)),
        lambda: held.check_posterior(LINEAR),
    ),
    Mutant(
        "factor two of the published formula twice",
        LookAhead,
        "pull",
        lambda original: lambda *given: (lambda native, pull: (native, 2 * pull))(*original(*given)),
        lambda: held.check_posterior(LINEAR),
    ),
    Mutant("without the network's Jacobian", LookAhead, "pull", without_network, lambda: held.check_support(LINEAR)),
    Mutant(
        "published variance for the exact one",
        LookAhead,
        "spread",
        lambda original: lambda self, *given: original(LookAhead(1.0, 1.0, variance="published"), *given),
        lambda: held.check_posterior(LINEAR),
    ),
    Mutant("variance without σ", LookAhead, "spread", by(lambda *given: 2.0), lambda: held.check_identity(LINEAR)),
    Mutant(
        "naive without α",
        NaiveGradient,
        "pull",
        without_alpha,
        lambda: held.check_identity(LINEAR),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_killed(mutant, monkeypatch):
    mutant.check()
    monkeypatch.setattr(mutant.owner, mutant.attribute, mutant.change(getattr(mutant.owner, mutant.attribute)))
    with pytest.raises(AssertionError):
        mutant.check()


def test_the_conversion_of_a_shift_is_of_one_place():
    """Every guidance that shifts the score takes its unit from the same function: -σ in the noise, σ²/α in the data."""
    oracle, path = GaussianOracle(VPLinear(), MEAN, COVARIANCE), VPLinear()
    units = {"noise": -path.sigma(0.3), "data": path.sigma(0.3) ** 2 / path.alpha(0.3), "score": 1.0}
    for kind, unit in units.items():
        assert float(base.score_unit(oracle, 0.3, kind)) == pytest.approx(unit, rel=1e-12)
