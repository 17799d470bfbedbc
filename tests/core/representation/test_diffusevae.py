"""DiffuseVAE: both formulations are one, codes are drawn by sample, and a refined model names its autoencoder."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser, MixtureOracle
from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.networks import Autoencoder
from anydiff.networks.latent_density import LatentDensity
from anydiff.paths import EDM, VE, KnownShift, MeanReverting, VPCosine, VPLinear, known_shift
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.solvers import compile_plan, execute
from anydiff.solvers.plan import Combine, Evaluate
from anydiff.states import Conditioning, StateSpec

SIZE, COUNT, CALLS = 5, 6, 12
CLASSES = ("ancestral", "tau-leaping", "unmasking")
OF_THEIR_OWN_PATHS = ("interpolant", "rddm")
"""Deterministic solvers that ask for predictions which a known source changes: refused with the fix."""
SHIFT = torch.linspace(-2, 3, SIZE, dtype=torch.float64).expand(COUNT, SIZE)


def solvers(stochastic):
    found = []
    for entry in registry().entries("solvers"):
        made = registry().load("solvers", entry.name)
        if bool(entry.metadata.get("stochastic")) is stochastic and entry.name not in CLASSES and made is not None:
            found.append(entry.name)
    return sorted(found)


def law(path):
    generator = torch.Generator().manual_seed(2)
    means = torch.randn(3, SIZE, generator=generator, dtype=torch.float64)
    return MixtureOracle(path, means, 0.1 * torch.eye(SIZE, dtype=torch.float64))


def both(name, base, share):
    """The end of one plan in each formulation, from the same noise, with exact denoisers."""
    shifted, exact = KnownShift(base, share), law(base)
    around = FunctionDenoiser(lambda x, t: exact.predict(x - share * SHIFT, t, "data"), shifted)
    noise = torch.randn(COUNT, SIZE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    given = Conditioning(sources={"input": SHIFT})
    ends = []
    for path, denoiser, condition in ((base, exact, Conditioning()), (shifted, around, given)):
        plan = compile_plan(name, path, CALLS)
        ends.append(execute(plan, denoiser, path.first(noise, condition), condition=condition))
    return ends


@pytest.mark.parametrize("name", solvers(stochastic=False))
def test_both_formulations_agree_with_every_deterministic_solver(name):
    if name in OF_THEIR_OWN_PATHS:
        with pytest.raises(NotApplicableError, match="use a solver that asks for the data"):
            both(name, VPLinear(), 1.0)
        return
    first, second = both(name, VPLinear(), 1.0)
    assert float((first - second).abs().max()) < 1e-12


@pytest.mark.parametrize("share", [1.0, -0.7])
@pytest.mark.parametrize("base", [VPCosine(), VE(), EDM()], ids=repr)
def test_any_base_and_any_share(base, share):
    first, second = both("dpm-solver++-2m", base, share)
    assert float((first - second).abs().max()) < 1e-12


def test_formulations_agree_for_a_stochastic_solver_of_the_same_draws():
    base, exact = VPLinear(), law(VPLinear())
    shifted = KnownShift(base)
    around = FunctionDenoiser(lambda x, t: exact.predict(x - SHIFT, t, "data"), shifted)
    spec, condition = StateSpec.single((SIZE,)), Conditioning(sources={"input": SHIFT})
    asked = {"solver": "ddpm", "nfe": CALLS, "seed": 5, "dtype": torch.float64}
    first = sample(exact, spec, COUNT, **asked)
    second = sample(around, spec, COUNT, **asked, condition=condition)
    assert float((first - second).abs().max()) < 1e-12


def test_the_step_of_ddpm_is_that_of_the_paper():
    """c_1 D + c_2 x + (1 - c_2) u, not (1 - c_1 - c_2) u; the last step is D alone."""
    base = VPLinear()
    plan = compile_plan("ddpm", KnownShift(base), 3, grid="time")
    rows = [each for each in plan.instructions if isinstance(each, Combine)]
    calls = [each for each in plan.instructions if isinstance(each, Evaluate)]
    terms = dict(rows[0].terms)
    t, s = plan.nodes[0], plan.nodes[1]
    abar, before = base.alpha(t) ** 2, base.alpha(s) ** 2
    ratio = abar / before
    c1 = before**0.5 * (1 - ratio) / (1 - abar)
    c2 = ratio**0.5 * (1 - before) / (1 - abar)
    assert terms[calls[0].out] == pytest.approx(c1, rel=1e-9)
    assert terms[calls[0].state] == pytest.approx(c2, rel=1e-9)
    assert terms["input"] == pytest.approx(1 - c2, rel=1e-9)


def test_a_share_of_zero_is_the_base_bit_for_bit():
    first, second = both("dpm-solver++-2m", VPLinear(), 0.0)
    assert torch.equal(first, second)


def test_paths_that_cannot_be_shifted_are_refused():
    with pytest.raises(AnydiffError, match="data and noise alone"):
        KnownShift(MeanReverting())
    with pytest.raises(AnydiffError, match="finite number"):
        known_shift("vp-linear", float("nan"))
    with pytest.raises(AnydiffError, match="name and options"):
        known_shift({"nam": "vp-linear"})


def test_the_density_draws_what_was_fitted():
    pytest.importorskip("sklearn", reason="scikit-learn fits densities of codes (extra density)")
    generator = torch.Generator().manual_seed(0)
    which = torch.arange(4000) % 2
    codes = torch.randn(4000, 2, generator=generator) * torch.tensor([0.3, 0.6]) + torch.where(
        which[:, None] == 0, torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 1.0])
    )
    density = LatentDensity(2, 2)
    before = float(density.log_density(codes).mean())
    density.fit(codes, seed=0)
    exact = [torch.distributions.Normal(m, torch.tensor([0.3, 0.6])) for m in (torch.tensor([2.0, 0.0]),)]
    other = torch.distributions.Normal(torch.tensor([-2.0, 1.0]), torch.tensor([0.3, 0.6]))
    truth = torch.logsumexp(torch.stack([exact[0].log_prob(codes).sum(1), other.log_prob(codes).sum(1)]), 0)
    expected = float((truth - torch.log(torch.tensor(2.0))).mean())
    assert before < expected - 1
    assert float(density.log_density(codes).mean()) == pytest.approx(expected, abs=0.01)
    numbers = torch.rand(20_000, generator=generator), torch.randn(20_000, 2, generator=generator)
    drawn = density.draw(*numbers)
    assert torch.allclose(drawn.mean(0), codes.double().mean(0), atol=0.05)
    assert torch.allclose(drawn.std(0), codes.double().std(0), atol=0.05)


def test_a_density_is_standard_normal_until_it_is_fitted_and_rows_do_not_mix():
    density = LatentDensity(3, 4)
    uniform, normal = torch.rand(5, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(density.draw(uniform, normal), normal)
    assert torch.equal(density.draw(uniform[3:4], normal[3:4]), density.draw(uniform, normal)[3:4])
    law = torch.distributions.Normal(0.0, 1.0)
    assert torch.allclose(density.log_density(normal), law.log_prob(normal).sum(1))


def test_more_components_than_codes_and_a_codebook_are_refused():
    pytest.importorskip("sklearn", reason="scikit-learn fits densities of codes (extra density)")
    with pytest.raises(AnydiffError, match="take fewer components"):
        LatentDensity(9, 2).fit(torch.randn(8, 2), 0)
    with pytest.raises(AnydiffError, match="codes of a codebook are classes"):
        Autoencoder(StateSpec.single((1, 8, 8)), codebook=16, density=2)


def test_an_autoencoder_without_a_density_keeps_its_tensors():
    spec = StateSpec.single((1, 8, 8))
    plain, dense = Autoencoder(spec), Autoencoder(spec, density=2)
    extra = set(dense.state_dict()) - set(plain.state_dict())
    assert extra == {"density.shares", "density.means", "density.factors"}
