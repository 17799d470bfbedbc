"""Operators of measurements: shapes, rows, adjoints, pseudo-inverses and singular values."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.inverse.operators import LinearOperator, Operator, dense, dot_test
from anydiff.registry import Entry
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

SMALL = 512
"""Up to so many entries of a state the singular values are compared with those of the dense matrix."""


def _operator(plugin: Subject, entry: Entry) -> Operator:
    made: Operator = plugin.build(entry)
    right = isinstance(made, Operator)
    require(right, f"it builds a {type(made).__name__}, which is no anydiff.inverse.operators.Operator.")
    return made


def _linear(plugin: Subject, entry: Entry) -> LinearOperator:
    made = _operator(plugin, entry)
    if not isinstance(made, LinearOperator):
        skip("it is not linear.")
    return made


def _states(operator: Operator) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(max(3, operator.cases), *operator.shape, generator=generator, dtype=torch.float64)


@check("measured.rows", "operators")
def rows(plugin: Subject, entry: Entry) -> None:
    """It gives one finite measurement per state, of the shape that it says, each of its own state alone."""
    operator = _operator(plugin, entry)
    x = _states(operator)
    kept, y = x.clone(), operator.forward(x)
    require(tuple(y.shape[1:]) == tuple(operator.output), f"it gives {tuple(y.shape[1:])}, not {operator.output}.")
    require(
        y.isfinite().all() and y.dtype == x.dtype, "a measurement is not finite, or of another type than the state."
    )
    require(torch.equal(x, kept), "it changes the state it is given.")
    if operator.cases == 1:
        alone = operator.forward(x[1:2])
        require(torch.allclose(alone, y[1:2], rtol=1e-9, atol=1e-12), "a measurement depends on the other states.")
    require(operator.linear == isinstance(operator, LinearOperator), "linear=True goes with a LinearOperator.")


@check("measured.adjoint", "operators", optional=True)
def adjoint(plugin: Subject, entry: Entry) -> None:
    """<A x, u> = <x, Aᵀ u> for random x and u."""
    found = dot_test(_linear(plugin, entry))
    require(found < 1e-10, f"<A x, u> and <x, Aᵀ u> differ by {found:.2g} of |A x| |u|.")


@check("measured.inverse", "operators", optional=True)
def inverse(plugin: Subject, entry: Entry) -> None:
    """A A⁺ A = A, and the singular values are those of the matrix."""
    operator = _linear(plugin, entry)
    x = _states(operator)
    y = operator.forward(x)
    again = operator.forward(operator.pseudo_inverse(y))
    off = float((again - y).abs().max() / y.abs().max().clamp_min(1e-300))
    require(off < 1e-7, f"A A⁺ A x is {off:.2g} off A x.")
    svd = operator.svd()
    if svd is None or operator.size > SMALL:
        return
    own = svd.values.sort(dim=1, descending=True).values.expand(operator.cases, -1)
    true = torch.linalg.svdvals(dense(operator))
    width = min(own.shape[1], true.shape[1])
    wrong = float((own[:, :width] - true[:, :width]).abs().max() / true.max())
    require(wrong < 1e-8, f"a singular value is {wrong:.2g} of the largest off that of the matrix.")
    require(torch.allclose(svd.back(svd.to(x)), x, atol=1e-9), "V Vᵀ is not the identity.")
