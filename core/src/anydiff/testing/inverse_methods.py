"""Methods for inverse problems, on a Gaussian whose posterior is known: the measurement is met, rows are rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import GaussianOracle, LinearGaussianOracle
from anydiff.inverse import InverseMethod, Problem
from anydiff.inverse.operators import Mask, Matrix, Operator
from anydiff.paths import VPCosine
from anydiff.registry import Entry
from anydiff.testing.guidance import (
    MEASUREMENT,
    NOISE_STD,
    OPERATOR,
    SOURCE_COVARIANCE,
    SOURCE_MEAN,
    check_law,
)
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

COVARIANCE = torch.tensor([[1.0, 0.6, 0.3], [0.6, 1.0, 0.6], [0.3, 0.6, 1.0]], dtype=torch.float64)
SEEN, VALUE, NOISE = [True, False, False], 1.5, 0.1
COUNT = 256


def _method(plugin: Subject, entry: Entry) -> InverseMethod:
    made: InverseMethod = plugin.build(entry)
    right = isinstance(made, InverseMethod)
    require(right, f"it builds a {type(made).__name__}, which is no anydiff.inverse.InverseMethod.")
    return made


def _solved(method: InverseMethod, values: Tensor, count: int | list[int], **options: Any) -> Tensor:
    problem = Problem(_mask(), values, NOISE)
    oracle = GaussianOracle(VPCosine(), torch.zeros(3), COVARIANCE)
    return method.solve(
        problem, oracle, (3,), count, **{"nfe": 24, "batch_size": 512, "dtype": torch.float64, **options}
    )


def _mask() -> Operator:
    return Mask((3,), torch.tensor(SEEN))


@check("inverse.meets", "inverse_methods")
def meets(plugin: Subject, entry: Entry) -> None:
    """What was measured is near the measurement, and what was not moves with it, by half a deviation at least."""
    method = _method(plugin, entry)
    found = _solved(method, torch.tensor([VALUE, 0.0, 0.0]), COUNT)
    require(tuple(found.shape) == (COUNT, 3), f"{COUNT} states of shape (3,) come as {tuple(found.shape)}.")
    require(found.isfinite().all(), "a state is not finite.")
    off = abs(float(found[:, 0].mean()) - VALUE)
    require(off < 0.3, f"the measured entry is {off:.2g} off the measurement of {VALUE} on average.")
    moved = float(found[:, 1].mean())
    require(moved > 0.4, f"its neighbour, of correlation 0.6, has the mean {moved:.2g}, but should follow it to 0.9.")


@check("inverse.posterior", "inverse_methods", optional=True)
def posterior(plugin: Subject, entry: Entry) -> None:
    """A method that registers posterior=True draws from the posterior of a linear-Gaussian problem."""
    if not entry.metadata.get("posterior"):
        skip("it does not register posterior=True, so it claims no law on a linear-Gaussian problem.")
    path = VPCosine()
    truth = LinearGaussianOracle(path, SOURCE_MEAN, SOURCE_COVARIANCE, OPERATOR, NOISE_STD)
    problem = Problem(Matrix((2,), OPERATOR), MEASUREMENT, NOISE_STD)
    inner = GaussianOracle(path, SOURCE_MEAN, SOURCE_COVARIANCE)
    options = {"solver": "dpm-solver++-2m"} if entry.metadata.get("kind") == "guidance" else {}
    found = _method(plugin, entry).solve(
        problem, inner, (2,), 2000, nfe=60, dtype=torch.float64, batch_size=2000, **options
    )
    check_law(found, truth, MEASUREMENT)


@check("inverse.rows", "inverse_methods")
def rows(plugin: Subject, entry: Entry) -> None:
    """Row b depends on the measurement of row b alone; chunks change nothing."""
    method = _method(plugin, entry)
    values = torch.tensor([[1.5, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.2, 0.0, 0.0]])
    together = _solved(method, values, 6, cases=3)
    cut = _solved(method, values, 6, cases=3, batch_size=2)
    require(torch.allclose(together, cut, rtol=1e-9, atol=1e-9), "a state depends on the chunk it is drawn in.")
    other = _solved(method, values + torch.tensor([[0.0], [1.0], [0.0]]), 6, cases=3)
    same = torch.allclose(together[[0, 2, 3, 5]], other[[0, 2, 3, 5]], rtol=1e-9, atol=1e-9)
    require(same, "a state depends on the measurement of another case.")
    require(not torch.equal(together[1], other[1]), "a state does not depend on its own measurement.")
