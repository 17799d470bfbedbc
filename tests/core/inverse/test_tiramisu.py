"""Tractable steering against its own formulas: products of laws, nothing to steer, factorised models, known entries."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.inverse import Problem, RePaint, SymbolOracle, Tiramisu
from anydiff.inverse.operators import Blur, Mask
from anydiff.inverse.symbols import likelihood
from anydiff.inverse.tractable import HiddenMarkov, Tree
from anydiff.paths import Flow, VPCosine

N, K = 6, 4
VALUES = torch.linspace(-1, 1, K, dtype=torch.float64)
SEEN = torch.tensor([True, True, False, False, False, False])
OPTIONS = {"nfe": 8, "dtype": torch.float64, "seed": 3}


def rows(seed, *shape):
    drawn = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    return drawn / drawn.sum(-1, keepdim=True)


CHAIN = HiddenMarkov(rows(2, 3), 0.9 * torch.eye(3).double() + 0.1 * rows(3, 3, 3), rows(4, 3, K), N)
NOTHING = Problem(Mask((N,), torch.zeros(N, dtype=torch.bool)), torch.zeros(N, dtype=torch.float64))


def known(values=(1, 2), noise=0.0, shape=(N,)):
    y = torch.full((N,), math.nan, dtype=torch.float64)
    y[:2] = VALUES[list(values)]
    return Problem(Mask(shape, SEEN.reshape(shape)), y.reshape(shape), noise)


def states(seed=0, count=5):
    return torch.randn(count, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("path", [VPCosine(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_an_exact_denoiser_and_its_own_model_agree_whatever_the_weight(path, a):
    """Nothing known: p_DM = p_TPM, so the product is that law for every a."""
    oracle, x = SymbolOracle(path, CHAIN, VALUES), states()
    for t in (0.9, 0.4, 0.05):
        law = oracle.symbol_law(x, t)
        found = Tiramisu(CHAIN, VALUES).product(NOTHING, law, x, a, path.alpha(t), path.sigma(t))
        assert torch.allclose(found, law, atol=1e-8)


def test_a_law_of_symbols_is_that_of_the_noised_state():
    """By enumeration of all words; the prediction is its mean."""
    path, x = VPCosine(), states(1, 2)
    model = HiddenMarkov(CHAIN.start, CHAIN.moves, CHAIN.emits, 3)
    oracle, x = SymbolOracle(path, model, VALUES), x[:, :3]
    words = torch.cartesian_prod(*[torch.arange(K)] * 3)
    prior = model.log_likelihood(torch.nn.functional.one_hot(words, K).double()).exp()
    t = 0.4
    off = x[:, None] - path.alpha(t) * VALUES[words]
    weight = prior * torch.exp(-off.square().sum(2) / (2 * path.sigma(t) ** 2))
    weight = weight / weight.sum(1, keepdim=True)
    assert torch.allclose(oracle(x, t), weight @ VALUES[words], atol=1e-10)


def test_a_window_hides_what_is_farther():
    oracle = SymbolOracle(VPCosine(), CHAIN, VALUES, window=1)
    x = states(2, 3)
    near, far = x.clone(), x.clone()
    near[:, 3] += 1.0
    far[:, 4:] += 1.0
    law = oracle.symbol_law(x, 0.5)
    assert torch.allclose(oracle.symbol_law(far, 0.5)[:, 2], law[:, 2])
    assert not torch.allclose(oracle.symbol_law(near, 0.5)[:, 2], law[:, 2], atol=1e-4)
    assert torch.allclose(SymbolOracle(VPCosine(), CHAIN, VALUES, window=N)(x, 0.5), _whole(x), atol=1e-10)


def _whole(x):
    return SymbolOracle(VPCosine(), CHAIN, VALUES)(x, 0.5)


@pytest.mark.parametrize("options", [{"weight": 1.0}, {"share": 0.0, "weight": 0.2}])
def test_nothing_steered_is_the_base_sampler_bit_for_bit(options):
    oracle = SymbolOracle(VPCosine(), CHAIN, VALUES)
    found = Tiramisu(CHAIN, VALUES, **options).solve(known(), oracle, (N,), 4, **OPTIONS)
    assert torch.equal(found, RePaint(length=0, times=0, eta=0.0).solve(known(), oracle, (N,), 4, **OPTIONS))


def test_nothing_measured_is_the_unconditional_walk():
    oracle = SymbolOracle(VPCosine(), CHAIN, VALUES)
    method = Tiramisu(CHAIN, VALUES, 0.0, 0.0, share=1.0)
    found = method.solve(NOTHING, oracle, (N,), 4, **OPTIONS)
    assert torch.equal(found, RePaint(length=0, times=0, eta=0.0).solve(NOTHING, oracle, (N,), 4, **OPTIONS))


def test_a_factorised_model_alone_gives_the_posterior_mean_of_each_entry():
    """a = 0: x_0 is E[v | x_t,i] under the entry's own law, where x_0 is the mean of the product."""
    single = rows(9, K)
    model = Tree((-1, *[0] * (N - 1)), single, single.expand(N, K, K))
    path, x, t = VPCosine(), states(4), 0.5
    method = Tiramisu(model, VALUES, 0.0, 0.0, share=1.0, draw=False)
    law = torch.full((5, N, K), 1 / K, dtype=torch.float64)
    found = method.clean(NOTHING, law, x, torch.zeros_like(x), 0.0, path.alpha(t), path.sigma(t))
    off = x[..., None] - path.alpha(t) * VALUES
    weight = single * torch.exp(-off.square() / (2 * path.sigma(t) ** 2))
    assert torch.allclose(found, (weight * VALUES).sum(-1) / weight.sum(-1), atol=1e-10)


def test_the_product_of_gaussians_has_the_weighted_precision():
    """Exponents a and 1 - a on a grid of many bins: precision a/v1 + (1-a)/v2, the mean weighted by them."""
    values = torch.linspace(-4, 4, 801, dtype=torch.float64)
    x, a, (m1, s1), (m2, s2) = torch.zeros(1, 1).double(), 0.3, (0.5, 0.4), (-0.3, 0.7)
    gaussian = torch.softmax(-((values - m2) ** 2) / (2 * s2**2), 0)
    model = Tree((-1,), gaussian, torch.zeros(1, 801, 801))
    one = Problem(Mask((1,), [False]), torch.zeros(1, dtype=torch.float64))
    law = torch.softmax(-((values - m1) ** 2) / (2 * s1**2), 0)[None, None]
    found = Tiramisu(model, values).product(one, law, x, a, 0.0, 1.0)[0, 0]  # alpha 0: the state says nothing
    precision = a / s1**2 + (1 - a) / s2**2
    mean = (a * m1 / s1**2 + (1 - a) * m2 / s2**2) / precision
    assert float(found @ values) == pytest.approx(mean, abs=0.01)
    assert float(found @ values**2) - mean**2 == pytest.approx(1 / precision, rel=0.01)


@pytest.mark.parametrize("a", [0.0, 0.5])
def test_known_entries_are_exact_and_the_others_symbols(a):
    oracle = SymbolOracle(VPCosine(), CHAIN, VALUES, shape=(1, N))
    found = Tiramisu(CHAIN, VALUES, a, a, share=1.0).solve(known(shape=(1, N)), oracle, (1, N), 6, **OPTIONS)
    assert torch.equal(found[:, 0, :2], VALUES[[1, 2]].expand(6, 2))
    assert float((found[..., None] - VALUES).abs().amin(-1).max()) < 1e-12


def test_the_weight_follows_the_authors_schedule():
    """0.83 at the first step, towards 1 at the last; only the first share of the steps is steered."""
    method = Tiramisu(CHAIN, VALUES, share=0.2)
    assert method.weight_at(1.0) == pytest.approx(0.8 + 0.2 * math.exp(-2))
    assert method.weight_at(0.81) > method.weight_at(1.0)
    assert method.weight_at(0.79) == 1.0
    assert Tiramisu(CHAIN, VALUES, share=1.0).weight_at(0.0) == 1.0


def test_a_draw_follows_the_product():
    path, t = VPCosine(), 0.6
    x = states(5, 1).expand(20000, N)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    method, oracle = Tiramisu(CHAIN, VALUES), SymbolOracle(path, CHAIN, VALUES)
    law = oracle.symbol_law(x[:1], t).expand(20000, N, K)
    found = method.clean(NOTHING, law, x, z, 0.5, path.alpha(t), path.sigma(t))
    shares = (found[..., None] == VALUES).double().mean(0)
    assert torch.allclose(
        shares, method.product(NOTHING, law[:1], x[:1], 0.5, path.alpha(t), path.sigma(t))[0], atol=0.02
    )


@pytest.mark.parametrize("direction", ["kept", "recomputed"])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_row_depends_on_its_own_measurement_alone(direction, noise):
    oracle = SymbolOracle(VPCosine(), CHAIN, VALUES)
    method = Tiramisu(CHAIN, VALUES, 0.4, 0.6, share=0.7, direction=direction)
    y = VALUES[torch.tensor([[0, 1, 2, 3, 0, 1], [3, 3, 3, 3, 3, 3]])]
    together = method.solve(Problem(Mask((N,), SEEN), y, noise), oracle, (N,), 4, cases=2, **OPTIONS)
    alone = method.solve(Problem(Mask((N,), SEEN), y[:1], noise), oracle, (N,), [0, 2], cases=1, **OPTIONS)
    assert torch.allclose(together[[0, 2]], alone, atol=1e-9)


def test_a_denoiser_of_means_is_steered_too():
    """A Gaussian around D, at the symbols' values: a network needs no law of its own."""
    inner = GaussianOracle(VPCosine(), torch.zeros(N), 0.5)
    method = Tiramisu(CHAIN, VALUES, 0.5, 0.5, share=1.0)
    x, data = states(7), states(8)
    law = method.law(inner)(x, data, 0.5, VPCosine().alpha(0.5), VPCosine().sigma(0.5))
    assert torch.allclose(law.sum(-1), torch.ones(5, N, dtype=torch.float64))
    assert method.solve(known(), inner, (N,), 3, **OPTIONS).isfinite().all()
    assert torch.allclose(likelihood(VALUES[None], VALUES, 1.0, 0.0)[0], torch.eye(K, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Tiramisu(3, VALUES), "model is a int, which gives no marginals"),
        (lambda: Tiramisu(CHAIN, VALUES[:2]), "the model has 4 symbols"),
        (lambda: Tiramisu(CHAIN, [0.0, 0.0, 1.0, 2.0]), "two symbols have the same value"),
        (
            lambda: Tiramisu(CHAIN, VALUES, 1.5),
            "weight is 1.5, but must be a finite number",
        ),
        (lambda: Tiramisu(CHAIN, VALUES, direction="free"), "direction"),
        (
            lambda: SymbolOracle(VPCosine(), CHAIN, VALUES, shape=(5,)),
            "but the model has 6 variables",
        ),
        (
            lambda: Tiramisu(CHAIN, VALUES).solve(
                Problem(Mask((3,), [True, False, True]), VALUES[:3]),
                GaussianOracle(VPCosine(), torch.zeros(3), 1.0),
                (3,),
            ),
            "has 6 variables, but a state has 3 entries",
        ),
        (
            lambda: Tiramisu(CHAIN, VALUES).solve(
                Problem(Blur((N,), 1.0), torch.ones(N), 0.1), GaussianOracle(VPCosine(), torch.zeros(N), 1.0), (N,)
            ),
            "'tiramisu' takes masks alone",
        ),
    ],
)
def test_what_is_refused(call, sentence):
    with pytest.raises((AnydiffError, UnknownNameError), match=sentence):
        call()
