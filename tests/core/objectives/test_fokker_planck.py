"""The residual of the Fokker-Planck equation against exact densities, its mutants, potentials, and what is refused."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from anydiff.denoisers import (
    GaussianOracle,
    NetworkDenoiser,
    Potential,
    has_log_density,
    log_density,
    require_smooth,
)
from anydiff.denoisers.potential import StraightPiecesError
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import MLP
from anydiff.objectives import Denoising, FokkerPlanck, Sum, Weighted, fokker_planck, fokker_planck_residual
from anydiff.paths import (
    EDM,
    VE,
    ExponentialVE,
    Flow,
    MeanReverting,
    OrnsteinUhlenbeck,
    ProductPath,
    SubVP,
    VPCosine,
    VPLinear,
)
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, Conditioning, Draws, Leaf, NoiseLaw, StateSpec

sys.path.insert(0, str(Path(__file__).parent))
import fokker_planck_checks as checks

OU = OrnsteinUhlenbeck(0.7, 1.3)
PATHS = [OrnsteinUhlenbeck(), OU, VPLinear(), VPCosine(), SubVP(), VE(), ExponentialVE(), EDM(), Flow()]
SPEC = StateSpec.single((2,))


def moved(network, size=0.1):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter))
    return network


def potential(path=None, kind="edm", spec=SPEC, options=None, **given):
    torch.manual_seed(0)
    network = moved(Potential(spec, **given, options=options or {"width": 16, "blocks": 2}))
    return NetworkDenoiser(network.double(), path or OrnsteinUhlenbeck(), kind, 0.7, spec)


# Exact densities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_diffused_mixtures_obey_the_equation(path):
    checks.check_mixtures(path)


def test_a_quadratic_log_density_has_the_coefficients_of_the_sheet():
    checks.check_coefficients()


def test_a_solution_that_begins_with_wrong_data_has_no_residual():
    checks.check_wrong_start()


@pytest.mark.parametrize("solver", ["heun", "euler-maruyama"])
def test_the_wrong_start_is_what_ode_and_sde_both_sample(solver):
    """R = 0 says that the two agree, and not that they are right: the data may have had the variance 1/4."""
    given = {"nfe": 1000, "grid": "time", "end": "stop", "dtype": torch.float64}
    drawn = sample(checks.wrong_start(0.1), (2000,), 4, solver=solver, **given)  # each entry is a sample of its own
    assert float(drawn.var()) == pytest.approx(0.1008, rel=0.06)


@pytest.mark.parametrize("path", [OrnsteinUhlenbeck(), VPLinear(), Flow()], ids=repr)
def test_probes_estimate_the_residual_without_bias(path):
    x, t = checks.points(path, rows=8)
    exact = fokker_planck_residual(checks.mixture(path), x, t)
    probes = Draws(0, range(8)).signs("probe", (4, 2)).movedim(0, 1)
    # In the plane the signs are (±1, ±1): the mean over all four of them is the trace.
    every = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)[:, None].expand(4, 8, 2)
    estimates = fokker_planck_residual(checks.mixture(path), x, t, probes=every)
    torch.testing.assert_close(estimates.mean(0), exact, rtol=0, atol=1e-9)
    some = fokker_planck_residual(checks.mixture(path), x, t, probes=probes)
    assert some.shape == (4, 8)
    assert some.std(0).max() > 1e-3
    scored = fokker_planck_residual(checks.Scored(checks.mixture(path)), x, t, probes=every)
    torch.testing.assert_close(scored.mean(0), torch.zeros_like(x), rtol=0, atol=1e-8)


def test_the_mean_product_of_two_probes_is_unbiased_and_one_square_is_not():
    values = torch.tensor([[1.0], [3.0], [-2.0]])
    assert float(fokker_planck.pair_mean(values)) == pytest.approx((1 * 3 + 1 * -2 + 3 * -2) / 3)
    draws = torch.randn(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    assert float(fokker_planck.pair_mean(draws.T).mean()) == pytest.approx(0.25, abs=0.05)
    assert float(draws.square().mean()) > 1.1


def test_known_sources_move_the_drift():
    """On a path to a known observation the density of x_t is that of mixtures around it."""
    path = MeanReverting()
    mu = torch.tensor([[0.7, -0.4]], dtype=torch.float64).expand(16, 2)
    inner = checks.MEANS[:1]

    class Around(checks.Quadratic):
        def __init__(self):
            self.path = path

        def log_density(self, x, t, condition=UNCONDITIONAL):
            c = path.coefficients(t)
            middle = c["x0"][:, None] * inner + c["mu"][:, None] * condition.given["mu"]
            spread = (c["x0"] ** 2 * 0.09 + c["noise"] ** 2)[:, None]
            return -((x - middle) ** 2 / spread + torch.log(2 * math.pi * spread)).sum(1) / 2

    x, t = checks.points(path, rows=16)
    assert fokker_planck_residual(Around(), x, t, Conditioning({"mu": mu})).abs().max() < 1e-8
    with pytest.raises(AnydiffError, match=r"the source 'mu' has shape \(1, 2\), but the data have \(16, 2\)"):
        fokker_planck_residual(Around(), x, t, Conditioning({"mu": mu[:1]}))


def test_every_leaf_may_have_its_own_path():
    spec = StateSpec([Leaf("a", (1,)), Leaf("b", (1,))])
    path = ProductPath((("a", VPLinear()), ("b", SubVP()))).bind(spec)
    oracle = GaussianOracle(path, torch.tensor([0.3, -0.6]), torch.tensor([0.2, 0.8]))
    x, t = checks.points(VPLinear(), rows=8)
    assert fokker_planck_residual(oracle, x, t * 0.9).abs().max() < 1e-8
    two = potential(path, spec=spec)
    with pytest.raises(AnydiffError, match="one noise level for all entries"):
        fokker_planck_residual(two, x, t * 0.9)


def test_a_constant_changes_nothing_and_a_function_of_the_time_does():
    x, t = checks.points(OrnsteinUhlenbeck(), rows=8)
    x = x[:, :1]
    plain, shifted, drifting = (
        fokker_planck_residual(checks.Quadratic(lambda s: 1.0 + 0 * s, c), x, t)
        for c in (lambda s: 0 * s, lambda s: 5.0 + 0 * s, lambda s: 3 * s)
    )
    torch.testing.assert_close(shifted, plain)
    torch.testing.assert_close(drifting, plain + 3)


def test_log_densities_of_exact_denoisers_are_normalised():
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    path = VPLinear()
    oracles = [
        GaussianOracle(path, torch.tensor([0.5]), 0.3),
        checks.GaussianMixtureOracle(path, torch.tensor([[-1.0], [2.0]]), torch.tensor([0.2, 0.4])),
    ]
    for oracle in oracles:
        for t in (0.1, 0.6):
            mass = torch.trapezoid(torch.exp(oracle.log_density(grid, t)), grid[:, 0])
            assert float(mass) == pytest.approx(1, abs=1e-9)
    one = Conditioning({"label": torch.zeros(4001, dtype=torch.long)})
    mass = torch.trapezoid(torch.exp(oracles[1].log_density(grid, 0.3, one)), grid[:, 0])
    assert float(mass) == pytest.approx(1, abs=1e-9)
    full = GaussianOracle(path, torch.zeros(2), torch.tensor([[0.5, 0.2], [0.2, 0.3]]))
    x, t = checks.points(path, rows=8)
    assert fokker_planck_residual(full, x, t).abs().max() < 1e-8


# Mutants ------------------------------------------------------------------------------------------------------------

EQUATION = fokker_planck.equation
MUTANTS = {
    "|∇u|² dropped": lambda r, s, f, q, lap: EQUATION(r, s, f, 0 * q, lap),
    "Laplacian dropped": lambda r, s, f, q, lap: EQUATION(r, s, f, q, 0 * lap),
    "div f dropped": lambda r, s, f, q, lap: EQUATION(r, 0 * s, f, q, lap),
    "transport dropped": lambda r, s, f, q, lap: EQUATION(r, s, 0 * f, q, lap),
    "rate dropped": lambda r, s, f, q, lap: EQUATION(0 * r, s, f, q, lap),
    "sign of the Laplacian": lambda r, s, f, q, lap: EQUATION(r, s, f, q, -lap),
    "g² for g²/2": lambda r, s, f, q, lap: EQUATION(r, s, f, 2 * q, 2 * lap),
    "sign of the drift": lambda r, s, f, q, lap: EQUATION(r, -s, -f, q, lap),
}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize(
    "check", [lambda: checks.check_mixtures(VPLinear()), checks.check_coefficients], ids=["m", "c"]
)
def test_a_wrong_equation_is_noticed(name, check, monkeypatch):
    monkeypatch.setattr(fokker_planck, "equation", MUTANTS[name])
    with pytest.raises(AssertionError):
        check()


# Potentials ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["data", "noise", "velocity", "score", "flow", "edm"])
@pytest.mark.parametrize("path", [OrnsteinUhlenbeck(), VE()], ids=repr)
def test_the_gradient_of_the_log_density_is_the_score(kind, path):
    denoiser = potential(path, kind)
    x, t = checks.points(path, rows=8)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(denoiser, x, t).sum(), x)
    torch.testing.assert_close(gradient, denoiser.predict(x, t, "score"), rtol=1e-9, atol=1e-9)


def test_the_jacobian_of_the_score_is_symmetric():
    denoiser = potential(kind="noise")
    for point in checks.points(OrnsteinUhlenbeck(), rows=4)[0]:
        jacobian = torch.autograd.functional.jacobian(lambda y: denoiser.predict(y[None], 0.7, "score")[0], point)
        torch.testing.assert_close(jacobian, jacobian.T, rtol=0, atol=1e-6)
        assert abs(float(jacobian[0, 1])) > 1e-4


def test_an_untrained_potential_of_edm_is_the_gaussian_of_the_data():
    torch.manual_seed(0)
    spec = StateSpec.single((3,))
    denoiser = NetworkDenoiser(Potential(spec, options={"width": 8}), OrnsteinUhlenbeck(), "edm", 0.7, spec)
    x, t = torch.randn(5, 3), torch.rand(5).double() + 0.1
    exact = GaussianOracle(OrnsteinUhlenbeck(), torch.zeros(3), 0.49)
    torch.testing.assert_close(log_density(denoiser, x, t), exact.log_density(x, t), rtol=1e-5, atol=1e-5)
    assert fokker_planck_residual(denoiser, x, t).abs().max() < 1e-4


def test_a_potential_samples_under_every_mode_of_gradients():
    denoiser = potential()
    x, t = torch.randn(3, 2, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    with torch.no_grad():
        plain = denoiser(x, 0.5)
    with torch.inference_mode():
        infered = denoiser(x.clone(), 0.5)
    assert not plain.requires_grad
    assert torch.equal(plain, infered)
    torch.testing.assert_close(denoiser(x, t).detach(), plain)
    assert denoiser(x, t).requires_grad


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_pictures_have_potentials(name):
    spec = StateSpec.single((1, 8, 8))
    options = {
        "unet": {"channels": 8, "multipliers": [1, 2], "blocks": 1},
        "dit": {"width": 16, "blocks": 1, "heads": 2, "patch_size": 4},
    }
    denoiser = NetworkDenoiser(moved(Potential(spec, network=name, options=options[name])), VPLinear(), spec=spec)
    probes = Draws(0, range(2)).signs("probe", (2, 1, 8, 8)).movedim(0, 1).float()
    found = fokker_planck_residual(denoiser, torch.randn(2, 1, 8, 8), 0.5, probes=probes)
    assert found.shape == (2, 2)
    assert found.isfinite().all()


def test_a_score_network_that_is_a_gradient_has_the_gradient_of_the_residual():
    denoiser = potential()
    x, t = checks.points(OrnsteinUhlenbeck(), rows=4)
    found = fokker_planck_residual(checks.Scored(denoiser), x, t)
    step = 1e-3  # the rate is rounded to float32, as the log-SNR is
    for entry in range(2):
        shift = step * torch.eye(2, dtype=torch.float64)[entry]
        up, down = (fokker_planck_residual(denoiser, x + sign * shift, t) for sign in (1, -1))
        torch.testing.assert_close(found[:, entry], (up - down) / (2 * step), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "given", [{}, {"network": "dit", "options": {"width": 16, "blocks": 1, "heads": 2, "patch_size": 2}}]
)
def test_the_loss_has_the_gradient_that_finite_differences_have(given):
    """Three derivatives of a network with layer norms and attention, which the library's own get wrong."""
    spec = StateSpec.single((1, 2, 2) if given else (2,))
    denoiser = potential(spec=spec, **given)
    x = torch.randn(3, *spec.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([0.3, 0.8, 2.0], dtype=torch.float64)

    def loss():
        return fokker_planck._of_log_density(denoiser, x, t, UNCONDITIONAL, None).square().sum()

    loss().backward()
    for name, parameter in denoiser.named_parameters():
        if parameter.ndim < 2 or parameter.numel() < 4:
            continue
        place, step = int(parameter.grad.abs().argmax()), 1e-4
        values = parameter.data.view(-1)
        ends = []
        for sign in (1, -1):
            values[place] += sign * step
            ends.append(float(loss().detach()))
            values[place] -= sign * step
        expected = float(parameter.grad.view(-1)[place])
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-2, abs=1e-4), name


# The term -----------------------------------------------------------------------------------------------------------


def parts(denoiser, positions, **options):
    rows = len(positions)
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, rows, 2, dtype=torch.float64, generator=generator)
    uniform = torch.rand(rows, dtype=torch.float64, generator=generator)
    objective = Sum({"denoising": Weighted(Denoising(), 1.0), "residual": Weighted(FokkerPlanck(**options), 1.0)})
    return objective.terms(denoiser, clean, noise, uniform, UNCONDITIONAL, Draws(5, positions))


def test_the_loss_is_the_squared_residual_at_points_of_its_own():
    denoiser = potential()
    found = parts(denoiser, range(6), box=2.0, every=3)["residual"].detach()
    assert (found != 0).tolist() == [True, False, False, True, False, False]
    drawn = Draws(5, [0, 3], name="draws/residual").uniform("points", (3,))
    x, t = 2 * (2 * drawn[:, 1:] - 1), 0.001 + (5 - 0.001) * drawn[:, 0]
    assert x.abs().max() < 2
    torch.testing.assert_close(found[[0, 3]], 3 * fokker_planck_residual(denoiser, x, t).square())
    shuffled = parts(denoiser, [3, 1, 0], box=2.0, every=3)["residual"].detach()
    torch.testing.assert_close(shuffled[[2, 0]], found[[0, 3]])


def test_points_on_the_path_are_the_examples_own():
    denoiser = potential()
    found = parts(denoiser, range(4), points="path", every=1)["residual"].detach()
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 4, 2, dtype=torch.float64, generator=generator)
    t = Denoising().times(denoiser.path, torch.rand(4, dtype=torch.float64, generator=generator))
    x = denoiser.path.mix(t, x0=clean, noise=noise)
    torch.testing.assert_close(found, fokker_planck_residual(denoiser, x, t).square())


def test_probes_in_the_term_are_pairs_of_independent_ones():
    denoiser = potential()
    exact = parts(denoiser, range(2), every=2)["residual"].detach()[0]
    found = parts(denoiser, range(2), every=2, probes=64)["residual"].detach()[0]
    assert float(found) == pytest.approx(float(exact), rel=0.5)
    found.isfinite()


def test_both_the_exact_and_the_probed_loss_train_every_parameter():
    for options in ({}, {"probes": 2}):
        denoiser = potential()
        parts(denoiser, range(4), **options)["residual"].sum().backward()
        for name, parameter in denoiser.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


# Refusals -----------------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """Two layers with an activation between them; the last may be zero as many are at the start."""

    def __init__(self, activation, zero=False):
        super().__init__()
        self.entry, self.exit, self.activation = nn.Linear(3, 16), nn.Linear(16, 2), activation
        if zero:
            nn.init.zeros_(self.exit.weight)

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        return self.exit(self.activation(self.entry(torch.cat([x, log_snr[:, None].to(x)], 1))))


STRAIGHT = {
    "relu": torch.relu,
    "module": nn.ReLU(),
    "leaky": nn.LeakyReLU(),
    "where": lambda h: torch.where(h > 0, h, 0.1 * h),
    "maximum": lambda h: torch.maximum(h, -h),
    "hardtanh": nn.Hardtanh(),
    "none": lambda h: h,
    "normalised": lambda h: torch.relu(nn.functional.layer_norm(h, (16,))),
}


@pytest.mark.parametrize("name", STRAIGHT)
def test_networks_of_straight_pieces_are_refused(name):
    denoiser = NetworkDenoiser(Plain(STRAIGHT[name], zero=True), VPLinear(), spec=SPEC)
    with pytest.raises(StraightPiecesError, match="the network Plain is made of straight pieces"):
        fokker_planck_residual(denoiser, torch.randn(3, 2), 0.5)


@pytest.mark.parametrize("activation", [torch.tanh, nn.SiLU(), nn.Softplus(beta=100), nn.GELU(), nn.ELU()])
def test_smooth_networks_pass_and_stay_as_they_are(activation):
    network = Plain(activation, zero=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    require_smooth(NetworkDenoiser(network, VPLinear(), spec=SPEC), torch.randn(3, 2), 0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_potential_of_relus_is_refused_before_training(monkeypatch):
    network = Potential(SPEC, options={"width": 8})
    network.network = Plain(torch.relu)
    with pytest.raises(StraightPiecesError, match="it uses Relu"):
        FokkerPlanck().prepare(NetworkDenoiser(network, VPLinear(), spec=SPEC))
    with pytest.raises(StraightPiecesError, match="it uses Relu"):
        parts(NetworkDenoiser(network.double(), VPLinear()), range(2))


def test_what_is_no_potential_is_refused_with_the_fix():
    denoiser = NetworkDenoiser(MLP(SPEC, width=8), VPLinear(), spec=SPEC)
    assert not has_log_density(denoiser)
    with pytest.raises(AnydiffError, match=r"set network\.name=potential"):
        FokkerPlanck().prepare(denoiser)
    with pytest.raises(AnydiffError, match=r"network\.name=potential"):
        log_density(denoiser, torch.randn(2, 2), 0.5)
    with pytest.raises(AnydiffError, match="is a potential itself"):
        registry().build("networks", "potential", spec=SPEC, network="potential")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"probes": 1}, "probes is 1, but one probe's square is not R²"),
        ({"probes": 0}, "probes is 0"),
        ({"box": 0.0}, "box is 0.0"),
        ({"box": math.inf}, "box is inf"),
        ({"every": 0}, "every is 0"),
    ],
)
def test_options_out_of_range(options, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        FokkerPlanck(**options)


def test_unknown_places_and_laws_are_named():
    with pytest.raises(UnknownNameError, match="place of collocation points 'everywhere'"):
        FokkerPlanck(points="everywhere")
    with pytest.raises(UnknownNameError, match="time law"):
        FokkerPlanck(times="beta")


class Heavy(NoiseLaw):
    name = "heavy"

    def draw(self, leaf, seed, samples, draw):
        raise NotImplementedError


class HeavyPath(VPLinear):
    noise_law = Heavy()


def test_laws_without_a_score_and_states_without_a_density_are_refused():
    with pytest.raises(AnydiffError, match="choose a path of Gaussian noise"):
        fokker_planck_residual(checks.mixture(HeavyPath()), torch.randn(2, 2), 0.5)
    edges = StateSpec([Leaf("edges", (4, 4), symmetric=True)])
    with pytest.raises(AnydiffError, match="absent or symmetric entries"):
        FokkerPlanck().prepare(NetworkDenoiser(MLP(edges, width=8), VPLinear(), spec=edges))
    with pytest.raises(AnydiffError, match="probes have shape"):
        fokker_planck_residual(checks.mixture(VPLinear()), torch.randn(2, 2), 0.5, probes=torch.ones(2, 2))


def test_the_memory_of_probes_grows_with_the_state_as_that_of_a_plain_step():
    """Bytes that autograd keeps for the backward pass, of 16 entries and of 256."""

    def kept(size, residual):
        spec = StateSpec.single((size,))
        denoiser = NetworkDenoiser(Potential(spec, options={"width": 32, "blocks": 2}), VPLinear(), "edm", spec=spec)
        clean, noise = torch.randn(2, 32, size)
        terms = {"denoising": Weighted(Denoising(), 1.0)}
        if residual:
            terms["residual"] = Weighted(FokkerPlanck(probes=2, every=2), 1.0)
        objective = Sum(terms)
        objective.prepare(denoiser)
        seen = {}

        def pack(tensor):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            held.append(tensor)
            return tensor

        held = []
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            objective(denoiser, clean, noise, torch.rand(32))
        parameters = {p.untyped_storage().data_ptr() for p in denoiser.parameters()}
        return sum(size for pointer, size in seen.items() if pointer not in parameters)

    plain, probed = kept(256, False) / kept(16, False), kept(256, True) / kept(16, True)
    assert probed == pytest.approx(plain, rel=0.2)
