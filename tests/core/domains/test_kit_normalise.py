"""Normalisers: what they compute, that they come back, that they are plain data, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.domains.kit import NORMALISERS, Gaussian, Levels, Limits, Scale, fit_normaliser, make_normaliser
from anydiff.errors import AnydiffError, UnknownNameError

FITTED = sorted({*NORMALISERS} - {"levels"})


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(FITTED), seed=st.integers(0, 10_000), size=st.integers(1, 4))
def test_normalisers_come_back_and_are_plain_data(name, seed, size):
    random = np.random.default_rng(seed)
    data = random.standard_normal((200, size)) * random.uniform(0.1, 5, size) + random.uniform(-3, 3, size)
    limit = np.abs(data).max(axis=0) / 0.99
    options = {"limit": limit} if name == "squashed-gaussian" else {}
    made = fit_normaliser(name, data, **options)
    assert made.size == size
    raw = torch.from_numpy(data)
    if name == "squashed-gaussian":
        raw = torch.maximum(torch.minimum(raw, raw.new_tensor(0.999 * limit)), raw.new_tensor(-0.999 * limit))
    encoded = made.encode(raw)
    torch.testing.assert_close(made.decode(encoded), raw, rtol=1e-9, atol=1e-9)
    again = make_normaliser(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert torch.equal(again.encode(raw), encoded)
    if name != "squashed-gaussian":
        np.testing.assert_allclose(made.encode(data), encoded.numpy(), rtol=1e-12, atol=1e-12)
    if name in ("limits", "cdf"):
        assert float(encoded.abs().max()) <= 1 + 1e-3
    if name == "cdf":
        assert float((encoded.sort(dim=0).values - torch.linspace(-1, 1, 200)[:, None]).abs().max()) < 0.1


def test_statistics_are_those_of_the_data_in_float64():
    data = np.array([[1.0, -4.0], [3.0, 0.0], [1.0, 4.0], [3.0, 0.0]], dtype=np.float32) + np.float32([0, 1e6])
    assert fit_normaliser("gaussian", data) == Gaussian((2.0, 1e6), (1.0, 8.0**0.5))
    assert fit_normaliser("limits", data) == Limits((1.0, 1e6 - 4), (3.0, 1e6 + 4))
    assert fit_normaliser("scale", np.array([-1.0, 3.0, np.nan])) == Scale(2.0)
    assert fit_normaliser("gaussian", np.array([1.0, 2.0, 4.0]), digits=3).to_json() == {
        "name": "gaussian", "mean": 2.33, "std": 1.25,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["gaussian", "limits", "cdf", "scale"])
def test_a_column_that_never_changes_is_not_divided_by_nothing(name):
    made = fit_normaliser(name, np.zeros((10, 1)))
    torch.testing.assert_close(made.decode(made.encode(torch.tensor([[3.0]]))), torch.tensor([[3.0]]))


def test_values_beyond_the_limits_are_extended_or_clamped():
    values = torch.tensor([-1.0, 0.0, 5.0, 10.0, 20.0])
    assert Limits(0.0, 10.0).encode(values).tolist() == pytest.approx([-1.2, -1, 0, 1, 3])
    shares = Limits(0.0, 10.0, onto=(0.0, 1.0), clamp=True)
    assert shares.encode(values).tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert shares.encode(values.numpy()).tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert make_normaliser(shares.to_json()) == shares


def test_bytes_come_back_exactly_and_beyond_the_range_are_clamped():
    every = torch.arange(256, dtype=torch.uint8)
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (-3.0, 0.1)):
        made = Levels(low, high)
        assert torch.equal(made.decode(made.encode(every)), every)
        assert made.encode(every)[0] == pytest.approx(low)
        assert made.encode(every)[-1] == pytest.approx(high)
    assert Levels().decode(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_a_normaliser_is_differentiable_and_keeps_the_type_of_a_tensor():
    values = torch.ones(3, 2, requires_grad=True)
    encoded = Gaussian((1.0, 2.0), (2.0, 4.0)).encode(values)
    assert encoded.dtype == torch.float32
    encoded.sum().backward()
    assert values.grad[0].tolist() == [0.5, 0.25]


def test_statistics_per_row_broadcast():
    made = Scale(torch.tensor([[2.0], [4.0]]))
    assert made.encode(torch.full((2, 3), 8.0)).tolist() == [[4.0] * 3, [2.0] * 3]


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ({"name": "gauss"}, "did you mean"),
        ({"name": "gaussian", "mean": [0.0], "std": [0.0]}, "std positive"),
        ({"name": "gaussian", "mean": [0.0], "std": [float("nan")]}, "std positive"),
        ({"name": "gaussian", "mean": [0.0, 1.0], "std": [1.0]}, "one entry per dimension"),
        ({"name": "gaussian", "mean": [0.0]}, "does not fit"),
        ({"name": "gaussian", "mean": ["a"], "std": [1.0]}, "does not fit"),
        ({"name": "limits", "low": [1.0], "high": [1.0]}, "low below high"),
        ({"name": "limits", "low": 0, "high": 1, "onto": [1, 0]}, "the first below the second"),
        ({"name": "scale", "unit": [1.0, 0.0]}, "must be positive"),
        ({"name": "levels", "low": 1, "high": 1}, "low must be below high"),
        ({"name": "cdf", "knots": [[0.0, 0.0]]}, "increase strictly"),
        ({"name": "cdf", "knots": [[0.0, 1.0], [0.0]]}, "one list per dimension"),
        ({"name": "squashed-gaussian", "mean": [0.0], "std": [1.0], "limit": [0.0]}, "positive"),
    ],
)
def test_bad_normalisers(given_, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        make_normaliser(given_)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(UnknownNameError, match="normaliser"):
        fit_normaliser("levels", np.zeros((3, 1)))
    with pytest.raises(AnydiffError, match="limit is missing"):
        fit_normaliser("squashed-gaussian", np.zeros((3, 1)))
