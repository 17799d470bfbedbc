"""The adaptive probability-flow ODE: likelihoods, latents and samples against closed forms and another integrator."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from exact import CENTRES, PATHS, mixture, reference, starts

from anydiff.denoisers import Denoiser, FunctionDenoiser, GaussianMixtureOracle, GaussianOracle, NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.networks import MLP
from anydiff.paths import EDM, VE, Flow, GaussianPath, MeanReverting, SubVP, VPLinear
from anydiff.samplers import AdaptiveODE, sample
from anydiff.samplers.adaptive_ode import METHODS, spherical
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec

pytest.importorskip("torchdiffeq")
LOG_2PI = math.log(2 * math.pi)
MEAN, STD = torch.tensor([0.3, -0.2], dtype=torch.float64), 0.2
NAMES = ["vp-linear", "sub-vp", "ve", "flow", "edm"]


def gaussian(path: GaussianPath) -> GaussianOracle:
    return GaussianOracle(path, MEAN, STD**2)


def data(count: int = 100) -> torch.Tensor:
    return MEAN + STD * torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def exact_latents(path: GaussianPath, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """x_T and dx_T/dx by the closed form of the flow of N(m, c²), data standing at t_end."""
    (a, s), (b, r) = ((path.alpha(t), path.sigma(t)) for t in (path.t_start, path.t_end))
    ratio = math.sqrt((a**2 * STD**2 + s**2) / (b**2 * STD**2 + r**2))
    return a * MEAN + ratio * b * (x - MEAN), ratio * b


def exact_log_likelihood(path: GaussianPath, x: torch.Tensor) -> torch.Tensor:
    """Of the model: the prior N(0, σ_T²) pulled back through the exact flow."""
    latents, slope = exact_latents(path, x)
    std = path.prior_std
    return (-((latents / std) ** 2) / 2 - math.log(std / slope) - LOG_2PI / 2).sum(1)


def normal_log_density(x: torch.Tensor, variance: float) -> torch.Tensor:
    return (-((x - MEAN) ** 2) / (2 * variance) - math.log(variance) / 2 - LOG_2PI / 2).sum(1)


@pytest.mark.parametrize("name", NAMES)
def test_log_likelihood_of_a_gaussian_is_exact(name: str) -> None:
    path = PATHS[name]
    value = AdaptiveODE().log_likelihood(gaussian(path), data())
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, exact_log_likelihood(path, data()), rtol=0, atol=1e-5)


def test_where_the_prior_is_reached_it_is_the_datas_own() -> None:
    path = Flow()
    kappa = path.sigma(path.t_end) / path.alpha(path.t_end)
    value = AdaptiveODE().log_likelihood(gaussian(path), data())
    torch.testing.assert_close(value, normal_log_density(data(), STD**2 + kappa**2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", [VPLinear(t_end=1e-5), SubVP(t_end=1e-5), VE()], ids=["vp", "sub-vp", "ve"])
def test_claim_of_score_sde_on_g2(path: GaussianPath) -> None:
    """Sheet score-sde, (a): data sd 0.2, exact score, exact trace, tolerance 1e-7, 100 points."""
    solver = AdaptiveODE(rtol=1e-7, atol=1e-7)
    value = solver.log_likelihood(gaussian(path), data())
    kappa = path.sigma(path.t_end) / path.alpha(path.t_end)
    error = value - normal_log_density(data(), STD**2 + kappa**2)
    assert float(error.abs().mean()) < 1e-2
    assert abs(float(error.mean())) < 2e-3
    assert 50 < solver.nfe < 300
    probed = solver.log_likelihood(gaussian(path), data(), trace="hutchinson")
    difference = probed - value  # an isotropic Gaussian's Jacobian is a multiple of 1: one probe is exact
    assert float(difference.abs().max()) < 1e-6


def test_bits_per_dimension_of_a_gaussian() -> None:
    entropy = (LOG_2PI + 1 + math.log(STD**2)) / 2 / math.log(2)
    x = data(100)
    x = MEAN + (x - x.mean(0)) / (x - x.mean(0)).square().mean(0).sqrt() * STD  # the sample's entropy is the law's
    for path in (Flow(), VPLinear(t_end=1e-5)):
        bits = AdaptiveODE().bits_per_dimension(gaussian(path), x)
        assert float(bits.mean()) == pytest.approx(entropy, abs=1e-3)
    eight = AdaptiveODE().bits_per_dimension(gaussian(Flow()), x, bin_width=2 / 256)
    plain = AdaptiveODE().bits_per_dimension(gaussian(Flow()), x)
    torch.testing.assert_close(eight, plain + 7)


def test_dequantisation_moves_each_entry_within_its_bin_by_its_own_stream() -> None:
    seen = []

    class Watch(AdaptiveODE):
        def log_likelihood(self, denoiser, clean, **options):
            seen.append(clean)
            return super().log_likelihood(denoiser, clean, **options)

    x = (data(64) * 8).round() / 8
    Watch().bits_per_dimension(gaussian(Flow()), x, bin_width=1 / 8, dequantize=True, seed=3)
    moved = (seen[0] - x) * 8
    assert float(moved.abs().max()) <= 0.5
    assert moved.std().item() == pytest.approx(math.sqrt(1 / 12), rel=0.1)
    Watch().bits_per_dimension(gaussian(Flow()), x[5:6], bin_width=1 / 8, dequantize=True, seed=3, samples=[5])
    assert torch.equal(seen[1][0], seen[0][5])


def test_hutchinson_is_unbiased_and_more_probes_spread_less() -> None:
    path = Flow()
    covariance = torch.tensor([[0.3, 0.2], [0.2, 0.25]], dtype=torch.float64)
    oracle = GaussianOracle(path, MEAN, covariance)
    x = data(1).expand(600, 2)
    exact = AdaptiveODE().log_likelihood(oracle, x[:1])
    one = AdaptiveODE(rtol=1e-4, atol=1e-4).log_likelihood(oracle, x, trace="hutchinson", batch_size=600)
    four = AdaptiveODE(rtol=1e-4, atol=1e-4).log_likelihood(oracle, x, trace="hutchinson", probes=4, batch_size=600)
    for values, probes in ((one, 1), (four, 4)):
        error = values - exact
        assert float(values.std()) > 0.05
        assert abs(float(error.mean())) < 3 * float(values.std()) / math.sqrt(600), probes
    assert float(four.std()) == pytest.approx(float(one.std()) / 2, rel=0.2)


def test_probes_are_keyed_by_seed_and_sample() -> None:
    oracle, x, solver = mixture(Flow()), data(6), AdaptiveODE(rtol=1e-8, atol=1e-8)
    whole = solver.log_likelihood(oracle, x, trace="hutchinson", seed=4)
    order = [4, 1, 5, 0, 2, 3]
    part = solver.log_likelihood(oracle, x[order], trace="hutchinson", seed=4, samples=order, batch_size=4)
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-5)
    assert float((solver.log_likelihood(oracle, x, trace="hutchinson", seed=5) - whole).abs().max()) > 1e-2


def test_likelihood_of_a_mixture() -> None:
    """An anisotropic law that is not Gaussian: log p by the formula."""
    path = Flow()
    kappa = path.sigma(path.t_end) / path.alpha(path.t_end)
    x = CENTRES + 0.2
    variance = 0.09 + kappa**2
    logits = -(x[:, None] - CENTRES).square().sum(-1) / (2 * variance)
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / 6
    expected = torch.logsumexp(weights.log() + logits, 1) - math.log(2 * math.pi * variance)
    torch.testing.assert_close(AdaptiveODE().log_likelihood(mixture(path), x), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_likelihood_is_invariant_under_rotation(name: str) -> None:
    path = PATHS[name]
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    weights = torch.tensor([1.0, 2.0, 3.0])
    solver = AdaptiveODE()
    plain = solver.log_likelihood(GaussianMixtureOracle(path, CENTRES, 0.3, weights), data(8))
    turned = solver.log_likelihood(GaussianMixtureOracle(path, CENTRES @ turn.T, 0.3, weights), data(8) @ turn.T)
    torch.testing.assert_close(turned, plain, rtol=0, atol=1e-5)


def test_likelihood_follows_a_shift_of_data_and_model() -> None:
    """Exactly where the prior is reached; on other paths the prior's centre stays behind."""
    path = Flow()
    weights = torch.tensor([1.0, 2.0, 3.0])
    solver = AdaptiveODE()
    plain = solver.log_likelihood(GaussianMixtureOracle(path, CENTRES, 0.3, weights), data(8))
    moved = solver.log_likelihood(GaussianMixtureOracle(path, CENTRES + 1.5, 0.3, weights), data(8) + 1.5)
    torch.testing.assert_close(moved, plain, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", list(PATHS))
def test_latents_are_exact_and_come_back(name: str) -> None:
    path = PATHS[name]
    if path.t_end == 0 and path.sigma(0.0) == 0:
        pytest.skip("this path ends without noise")
    solver = AdaptiveODE()
    latents = solver.encode(gaussian(path), data())
    torch.testing.assert_close(latents, exact_latents(path, data())[0], rtol=0, atol=1e-5 * max(1.0, path.prior_std))
    x = CENTRES + 0.2
    latents = solver.encode(mixture(path), x)
    assert 20 < solver.nfe < 400
    torch.testing.assert_close(solver.decode(mixture(path), latents), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vp-linear", "ve", "edm", "flow"])
def test_decoding_agrees_with_another_integrator(name: str) -> None:
    path = PATHS[name]
    expected = reference(path, mixture(path), starts(path), path.t_end, steps=700) / path.alpha(path.t_end)
    decoded = AdaptiveODE(rtol=1e-8, atol=1e-8).decode(mixture(path), starts(path))
    torch.testing.assert_close(decoded, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_meets_its_tolerance(method: str) -> None:
    path = VPLinear()
    latents = AdaptiveODE(rtol=1e-5, atol=1e-5, method=method).encode(gaussian(path), data(4))
    torch.testing.assert_close(latents, exact_latents(path, data(4))[0], rtol=0, atol=3e-4)


def test_a_sample_is_keyed_by_seed_and_index() -> None:
    oracle, solver = mixture(VPLinear()), AdaptiveODE(rtol=1e-8, atol=1e-8)
    whole = sample(oracle, (2,), 40, seed=7, solver=solver)
    torch.testing.assert_close(sample(oracle, (2,), [37], seed=7, solver=solver)[0], whole[37], rtol=0, atol=1e-6)
    loose = AdaptiveODE(rtol=1e-3, atol=1e-3)
    alone = sample(oracle, (2,), [3, 1], seed=7, batch_size=1, solver=loose)
    assert torch.equal(alone[1], sample(oracle, (2,), 2, seed=7, batch_size=1, solver=loose)[1])


def test_samples_reach_the_clean_data_and_start_from_the_plans_noise() -> None:
    path = VPLinear(t_end=0.01)
    start = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    latents, _ = exact_latents(path, data(9))
    solver = AdaptiveODE(rtol=1e-8, atol=1e-8)
    kappa = path.sigma(0.01) / path.alpha(0.01)
    clean = MEAN + (data(9) - MEAN) * STD / math.sqrt(STD**2 + kappa**2)
    errors = {
        end: float(
            (sample(gaussian(path), (2,), 9, start=latents, solver=replace(solver, end=end)) - clean).abs().max()
        )
        for end in ("clean", "stop")
    }
    assert errors["clean"] < errors["stop"] / 50
    cold = sample(gaussian(path), (2,), 3, temperature=0.0, solver=replace(solver, end="stop"))
    torch.testing.assert_close(cold, solver.decode(gaussian(path), torch.zeros(3, 2)))
    assert start.shape == latents.shape


def test_interpolation_ends_at_its_ends_and_arcs_keep_their_length() -> None:
    oracle, solver = mixture(VPLinear()), AdaptiveODE()
    between = solver.interpolate(oracle, CENTRES[:2] + 0.1, CENTRES[1:] + 0.1, [0.0, 0.5, 1.0])
    assert between.shape == (3, 2, 2)
    torch.testing.assert_close(between[0], CENTRES[:2] + 0.1, rtol=0, atol=1e-5)
    torch.testing.assert_close(between[2], CENTRES[1:] + 0.1, rtol=0, atol=1e-5)
    a, b = torch.nn.functional.normalize(torch.randn(2, 5, 9, dtype=torch.float64), dim=2)
    for weight in (0.2, 0.5, 0.9):
        arc = spherical(a, b, weight)
        torch.testing.assert_close(arc.norm(dim=1), torch.ones(5, dtype=torch.float64))
        torch.testing.assert_close((arc * a).sum(1).acos(), weight * (a * b).sum(1).acos())
    torch.testing.assert_close(spherical(a, a, 0.3), a)


def test_guidance_and_conditions_follow_their_rows() -> None:
    oracle = mixture(VPLinear())
    label = torch.tensor([0, 1, 2, 0, 1])
    latents = starts(VPLinear(), 5)
    solver = AdaptiveODE(rtol=1e-8, atol=1e-8)
    whole = solver.decode(oracle, latents, guidance=ClassifierFree(2.0), condition={"label": label})
    for row in range(5):
        one = solver.decode(
            oracle, latents[row : row + 1], guidance=ClassifierFree(2.0), condition={"label": label[row : row + 1]}
        )
        torch.testing.assert_close(one[0], whole[row], rtol=0, atol=1e-5)
    chunks = solver.decode(oracle, latents, guidance=ClassifierFree(2.0), condition={"label": label}, batch_size=2)
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-5)


def test_a_mean_reverting_path_is_shifted() -> None:
    path = MeanReverting()
    mu = torch.tensor([[0.5, 0.1], [-0.4, 0.3]], dtype=torch.float64)

    def posterior(x: torch.Tensor, t: float, condition: Conditioning) -> torch.Tensor:
        mu = condition.given["mu"]
        alpha, sigma = path.alpha(t), path.sigma(t)
        residual = x - alpha * MEAN - (1 - alpha) * mu
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * residual

    solver, clean = AdaptiveODE(), data(2)
    latents = solver.encode(FunctionDenoiser(posterior, path), clean, condition={"mu": mu})
    (a, s), (b, r) = ((path.alpha(t), path.sigma(t)) for t in (path.t_start, path.t_end))
    ratio = math.sqrt((a**2 * STD**2 + s**2) / (b**2 * STD**2 + r**2))
    expected = mu + a * (MEAN - mu) + ratio * b * (clean - MEAN)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-5)
    with pytest.raises(AnydiffError, match="leads to a known 'mu'"):
        solver.encode(FunctionDenoiser(posterior, path), clean)


@pytest.mark.parametrize("kind", ["noise", "velocity", "edm"])
def test_a_float32_network_is_solved_in_float64(kind: str) -> None:
    torch.manual_seed(0)

    class Strict(MLP):
        def forward(self, x, log_snr, condition=UNCONDITIONAL):
            assert x.dtype == torch.float32
            return super().forward(x, log_snr, condition)

    network = Strict(StateSpec.single((3,)), {}, width=16, blocks=1)
    denoiser: Denoiser = NetworkDenoiser(network, VPLinear(), kind, sigma_data=0.5).eval()
    solver = AdaptiveODE(rtol=1e-5, atol=1e-5)
    clean = torch.randn(4, 3)
    latents = solver.encode(denoiser, clean)
    assert latents.dtype == torch.float64
    torch.testing.assert_close(solver.decode(denoiser, latents), clean.double(), rtol=0, atol=1e-3)
    with torch.inference_mode():
        assert torch.isfinite(solver.log_likelihood(denoiser, clean)).all()
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (lambda: AdaptiveODE(method="rk4"), "unknown method 'rk4'"),
        (lambda: AdaptiveODE(atol=0.0), "atol is 0.0"),
        (lambda: AdaptiveODE(t_end=0.0).encode(gaussian(EDM()), data(2)), "t_end is 0.0"),
        (lambda: AdaptiveODE(max_nfe=9).encode(gaussian(EDM()), data(2)), "max_nfe=9"),
        (lambda: AdaptiveODE().log_likelihood(gaussian(EDM()), data(2), trace="exac"), "did you mean 'exact'"),
        (lambda: AdaptiveODE().log_likelihood(gaussian(EDM()), data(2), samples=[1]), "samples has 1 indices"),
        (lambda: sample(gaussian(EDM()), (2,), 2, solver=replace(AdaptiveODE(), end="denoise")), "end rule 'denoise'"),
        (lambda: AdaptiveODE().bits_per_dimension(gaussian(EDM()), data(2), bin_width=0.0), "bin_width is 0.0"),
        (lambda: AdaptiveODE().encode(gaussian(EDM()), data(2)[0]), r"not \(2,\)"),
    ],
)
def test_bad_input_is_told_in_one_sentence(run, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        run()


def test_without_torchdiffeq_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(AnydiffError, match=r"pip install 'anydiff\[ode\]'"):
        AdaptiveODE().encode(gaussian(VPLinear()), data(2))
