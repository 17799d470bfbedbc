"""sample(): sample k of seed s is the same whatever is drawn with it; options are heard or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import CENTRES, PATHS, gaussian, mixture

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.paths import EDM, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.ddim import DDIM
from anydiff.states import UNCONDITIONAL


class OneByOne(GaussianMixtureOracle):
    """Batch-invariant bit for bit: every row is a call of its own (a matrix product may depend on its height)."""

    def native(self, x, t, condition=UNCONDITIONAL):
        rows = [super(OneByOne, self).native(x[i : i + 1], t, condition.rows(slice(i, i + 1))) for i in range(len(x))]
        return torch.cat(rows)


def denoiser() -> OneByOne:
    return OneByOne(VPLinear(), CENTRES, 0.3)


@pytest.mark.parametrize("solver", ["dpm-solver++-2m", "ddpm", "ddim"])
def test_sample_37_alone_is_sample_37_of_64(solver):
    options = {"eta": 0.7} if solver == "ddim" else {}
    settings = {"nfe": 5, "solver": solver, "seed": 3, **options}
    whole = sample(denoiser(), (2,), 64, **settings)
    assert torch.equal(sample(denoiser(), (2,), [37], **settings)[0], whole[37])
    assert torch.equal(sample(denoiser(), (2,), 64, batch_size=7, **settings), whole)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()
    assert torch.equal(sample(denoiser(), (2,), order, batch_size=10, **settings), whole[order])
    assert not torch.equal(sample(denoiser(), (2,), 64, **(settings | {"seed": 4})), whole)


def test_conditions_follow_their_samples_through_chunks():
    label = torch.arange(12) % 3
    settings = {"nfe": 5, "condition": {"label": label}, "guidance": ClassifierFree(2.0)}
    whole = sample(denoiser(), (2,), 12, **settings)
    assert torch.equal(sample(denoiser(), (2,), 12, batch_size=5, **settings), whole)


@pytest.mark.parametrize("name", sorted(set(PATHS) - {"vp-log-snr"}))
def test_moments_of_samples(name):
    out = sample(gaussian(PATHS[name]), (2,), 2000, nfe=60, grid="log-snr", dtype=torch.float64, batch_size=2000)
    torch.testing.assert_close(out.mean(0), gaussian(PATHS[name]).mean, rtol=0, atol=0.05)
    torch.testing.assert_close(out.var(0), gaussian(PATHS[name]).variance, rtol=0.15, atol=0)


def test_given_start_and_plan():
    path = VPLinear()
    start = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    plan = compile_plan("ddim", path, 2, grid=[0.5, 0.2, 0.1])
    out = sample(gaussian(path), (2,), 3, solver=plan, start=start)
    assert torch.equal(out, sample(gaussian(path), (2,), 3, solver="ddim", nfe=2, grid=[0.5, 0.2, 0.1], start=start))
    with pytest.raises(AnydiffError, match="start="):
        sample(gaussian(path), (2,), 3, solver=plan)
    with pytest.raises(AnydiffError, match="compiled for"):
        sample(gaussian(EDM()), (2,), 3, solver=plan, start=start)


def test_temperature_scales_the_prior():
    cold = sample(gaussian(VPLinear()), (2,), 3, temperature=0.0, dtype=torch.float64)
    assert torch.equal(cold[0], cold[1])
    with pytest.raises(AnydiffError, match="temperature"):
        sample(gaussian(VPLinear()), (2,), 3, temperature=-1.0)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "3", None, [], [1, -1], [1.5]])
def test_bad_counts(count):
    with pytest.raises(AnydiffError, match="count|sample index"):  # noqa: RUF043
        sample(gaussian(VPLinear()), (2,), count, nfe=2)


def test_bad_arguments():
    oracle = gaussian(VPLinear())
    for seed in (-1, 0.5, 2**64, True):
        with pytest.raises(AnydiffError, match="seed"):
            sample(oracle, (2,), 2, seed=seed)
    with pytest.raises(AnydiffError, match="batch_size"):
        sample(oracle, (2,), 2, batch_size=0)
    with pytest.raises(AnydiffError, match=r"eta is .*, but solver is a DDIM, which has its own"):
        sample(oracle, (2,), 2, solver=DDIM(), eta=0.5)
    with pytest.raises(AnydiffError, match="condition 'label' has"):
        sample(oracle, (2,), 2, condition={"label": torch.zeros(3)})
    with pytest.raises(AnydiffError, match="start has"):
        sample(oracle, (2,), 2, start=torch.zeros(3, 2))
    with pytest.raises(AnydiffError, match="state has shape"):
        sample(oracle, (2,), 2, start=torch.zeros(2, 3))


def test_numpy_counts_and_dtypes():
    out = sample(mixture(VPLinear()), (2,), np.int64(3), nfe=3)
    assert out.dtype == torch.float32
    double = sample(mixture(VPLinear()), (2,), range(3), nfe=3, dtype=torch.float64)
    torch.testing.assert_close(out.double(), double, rtol=1e-3, atol=1e-4)
