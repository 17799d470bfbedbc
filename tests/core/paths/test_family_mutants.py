"""Wrong versions of the family, each killed by a test that is named here."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import test_family as family
from killing import assert_killed

from anydiff.errors import AnydiffError
from anydiff.paths import RDDM, GaussianPath, Interpolant, PFGMPlusPlus
from anydiff.solvers import interpolant
from anydiff.states import GaussianNoise, StudentTNoise


def swapped(path, t):
    made = RIGHT(path, t)
    return {**made, "x0": made["input"], "input": made["x0"]}


def each_entry(self, leaf, seed, samples, draw):
    noise = GaussianNoise().draw(leaf, seed, samples, draw)
    scale = [self.length(seed + 1 + i, samples, draw) for i in range(noise[0].size)]
    return noise * np.stack(scale, 1).reshape(noise.shape)


RIGHT, RATE = RDDM.coefficients, Interpolant.noise_rate
HALF_ROOT = SimpleNamespace(sqrt=lambda value: math.sqrt(value / 2), inf=math.inf)
MUTANTS = {
    "the sign of the noise rate": (
        (Interpolant, "noise_rate", lambda self, t: -RATE(self, t)),
        lambda: family.test_the_fields_of_mixtures_are_those_of_quadrature(Interpolant()),
    ),
    "epsilon in place of two epsilon": (
        (interpolant, "math", HALF_ROOT),
        family.test_no_epsilon_is_the_ode_to_the_bit_and_half_of_g_squared_is_the_reverse_sde,
    ),
    "a length of every entry": (
        (StudentTNoise, "draw", each_entry),
        family.test_one_length_is_shared_by_all_entries_and_leaves,
    ),
    "a Gaussian prior": (
        (PFGMPlusPlus, "noise_law", GaussianNoise()),
        family.test_sampling_begins_with_the_law_of_the_path,
    ),
    "A in place of 1 - A": (
        (RDDM, "coefficients", swapped),
        lambda: family.test_every_kind_of_prediction_gives_the_same_samples(RDDM(t_end=0.01), "input", "rddm"),
    ),
    "an unshifted mean": (
        (GaussianPath, "shift", lambda self, t: dict.fromkeys(self.known, 0.0)),
        lambda: family.test_the_mean_of_the_prior_flows_to_the_mean_of_the_data(RDDM(t_end=0.01), "input"),
    ),
    "half the jump at the end for every law": (
        (StudentTNoise, "end_exponent", 2.0),
        lambda: family.test_a_plan_ends_right_to_leading_order_for_every_law(1.0),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_killed(name, monkeypatch):
    assert_killed(*MUTANTS[name], monkeypatch, (AssertionError, AnydiffError))
