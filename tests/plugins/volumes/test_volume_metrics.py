"""Metrics of volumes: values by hand, invariances, and what the mean of several draws is worth."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.states import Conditioning
from anydiff_volumes.domain import Volumes
from anydiff_volumes.metrics import NRMSE, PSNR, SSIM, Dice, FrechetDistance, dice, nrmse, psnr, ssim

DOMAIN = Volumes(shape=(12, 13, 14), voxel_size=1.0)


def pair(seed=0):
    generator = np.random.default_rng(seed)
    truth = np.clip(np.cumsum(generator.normal(0, 0.2, (12, 13, 14)), axis=0), -1, 1)
    return truth, np.clip(truth + generator.normal(0, 0.1, truth.shape), -1, 1)


def sets(states):
    return SampleSet(torch.as_tensor(np.asarray(states)).float()[:, None], Conditioning(), DOMAIN)


def test_values_by_hand():
    truth = np.zeros((12, 13, 14))
    truth[0] = 1.0
    assert psnr(truth + 0.2, truth) == pytest.approx(20.0)
    assert psnr(truth + 0.02, truth) == pytest.approx(40.0), "20 dB for a tenth of the error"
    assert psnr(truth, truth) == 100
    assert nrmse(truth + 0.2, truth) == pytest.approx(0.2)
    assert ssim(truth, truth) == pytest.approx(1.0)
    one, two = np.zeros((2, 2), bool), np.ones((2, 2), bool)
    half = np.array([[True, True], [False, False]])
    assert (dice(two, two), dice(one, one), dice(one, two), dice(half, two)) == (1.0, 1.0, 0.0, pytest.approx(2 / 3))


def test_ssim_is_the_formula_in_three_dimensions():
    """Wang et al. 2004 with a Gaussian window of 1.5 voxels, constants of the range 2, without a rim of five voxels."""
    generator = np.random.default_rng(3)
    one = ndimage.gaussian_filter(generator.normal(0, 1, (13, 14, 15)), 1)
    two = one + generator.normal(0, 0.2, one.shape)

    def mean(values):
        return ndimage.gaussian_filter(values, 1.5, truncate=3.5)

    a, b = mean(one), mean(two)
    variance_a, variance_b, covariance = mean(one**2) - a**2, mean(two**2) - b**2, mean(one * two) - a * b
    c, d = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    map_ = (2 * a * b + c) * (2 * covariance + d) / ((a**2 + b**2 + c) * (variance_a + variance_b + d))
    assert ssim(two, one) == pytest.approx(map_[5:-5, 5:-5, 5:-5].mean(), abs=1e-9)


def test_dice_is_of_what_lies_above_the_share_of_the_range():
    """0.75 of [0, 1] is 0.5 in states: two of three bright voxels are found, and one that is none."""
    truth = np.full((12, 13, 14), -1.0)
    truth[0, 0, :3] = 0.6
    sample = np.full((12, 13, 14), 0.4)
    sample[0, 0, 1:4] = 0.6
    assert Dice(0.75).compute(sets([sample]), sets([truth])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", [PSNR(), SSIM(), NRMSE(), Dice(0.6)])
def test_a_joint_flip_changes_nothing(metric):
    truth, sample = pair()
    before = metric.compute(sets([sample]), sets([truth]))
    assert metric.compute(sets([sample[::-1].copy()]), sets([truth[::-1].copy()])) == pytest.approx(before, rel=1e-4)


def test_every_sample_is_judged_by_its_own_case():
    truths = np.stack([pair(seed)[0] for seed in range(3)])
    draws = np.concatenate([truths, truths])
    for metric, best in ((PSNR(), 100.0), (SSIM(), 1.0), (NRMSE(), 0.0), (Dice(0.6), 1.0), (PSNR("mean"), 100.0)):
        assert metric.compute(sets(draws), sets(truths)) == pytest.approx(best), metric.card.name
        assert metric.compute(sets(draws[:2]), sets(truths)) == pytest.approx(best), "the first two cases"
        shuffled = metric.compute(sets(draws[[1, 2, 0, 1, 2, 0]]), sets(truths))
        assert abs(shuffled - best) > 0.1, metric.card.name


def test_the_mean_of_draws_is_judged_as_one_volume():
    truth, _ = pair()
    generator = np.random.default_rng(1)
    draws = np.stack([truth + generator.normal(0, 0.1, truth.shape) for _ in range(8)])
    reference = sets(np.stack([truth, truth]))
    each, mean = PSNR().compute(sets(draws), reference), PSNR("mean").compute(sets(draws), reference)
    assert mean - each == pytest.approx(10 * np.log10(4), abs=0.3), "four draws per case"
    assert PSNR("mean").card.name == "volumes/psnr-of-mean"
    with pytest.raises(AnydiffError, match="unknown estimate"):
        PSNR("best")
    with pytest.raises(AnydiffError, match=r"threshold is 2"):
        Dice(2)


def test_the_features_are_fixed_and_tell_noise_from_volumes():
    truth = np.stack([pair(seed)[0] for seed in range(64)])
    noisy = truth + np.random.default_rng(0).normal(0, 0.3, truth.shape)
    metric = FrechetDistance()
    assert "@" in metric.card.features
    assert metric.card == FrechetDistance().card
    same, other = (metric.compute(sets(each), sets(truth)) for each in (truth[::-1].copy(), noisy))
    assert same < 1e-6 < other
