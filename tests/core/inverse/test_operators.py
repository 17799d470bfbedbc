"""Operators: adjoints, pseudo-inverses and singular values against dense matrices; adapters; what is refused."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator as SciPyOperator

from anydiff.errors import AnydiffError
from anydiff.inverse.operators import (
    Adjointed,
    AveragePooling,
    Blur,
    Clipped,
    Composition,
    Fourier,
    LinearOperator,
    Magnitude,
    Mask,
    Matrix,
    Matvec,
    Quantised,
    Radon,
    Scaling,
    SparseMatrix,
    Stack,
    dense,
    dot_test,
    observing,
)

KINDS = (
    "mask", "masks", "matrix", "matrices", "sparse", "pooling", "weighted", "sums", "some blocks", "blur", "kernel",
    "fourier", "fourier of cases", "radon", "composition", "stack",
)  # fmt: skip


def made(kind: str, seed: int, factor: int = 2) -> LinearOperator:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shape = (2 * factor, 3 * factor)
    n = shape[0] * shape[1]
    kernel = normal(3, 3)
    pooling = AveragePooling((2, *shape), factor, normal(*shape).abs() + 0.1)
    return {
        "mask": lambda: Mask(shape, normal(*shape) > 0),
        "masks": lambda: Mask(shape, normal(3, *shape) > 0),
        "matrix": lambda: Matrix(shape, normal(7, n)),
        "matrices": lambda: Matrix(shape, normal(3, n + 2, n)),
        "sparse": lambda: SparseMatrix(shape, torch.where(normal(9, n) > 0.5, 1.0, 0.0).to_sparse()),
        "pooling": lambda: AveragePooling((1, *shape), factor),
        "weighted": lambda: pooling,
        "sums": lambda: AveragePooling((1, 6 * factor), factor, total=True),
        "some blocks": lambda: observing(pooling, normal(3, *pooling.output) > 0),
        "blur": lambda: Blur((1, *shape), 0.7),
        "kernel": lambda: Blur(shape, kernel=kernel),
        "fourier": lambda: Fourier((1, 5, 6), normal(5, 6) > 0),
        "fourier of cases": lambda: Fourier((2, 5, 6), normal(3, 5, 6) > 0, axes=2),
        "radon": lambda: Radon((2, 6, 7), (0.0, 30.0, 77.0, 140.0), 8),
        "composition": lambda: Composition((AveragePooling(shape, factor), Blur(shape, kernel=kernel))),
        "stack": lambda: Stack((Mask(shape, normal(*shape) > 0), AveragePooling(shape, factor))),
    }[kind]()


def states(operator, seed=0, rows=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(max(rows, operator.cases), *operator.shape, generator=generator, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**31), factor=st.sampled_from((2, 3)))
def test_adjoint_inverse_and_svd(kind, seed, factor):
    operator = made(kind, seed, factor)
    assert dot_test(operator) < 1e-12
    x = states(operator, seed)
    y = operator.forward(x)
    assert tuple(y.shape[1:]) == operator.output
    size = float(y.abs().max()) + 1e-12
    assert float((operator.forward(operator.pseudo_inverse(y)) - y).abs().max()) < 1e-8 * size * operator.size
    svd = operator.svd()
    matrix = dense(operator)
    values = torch.linalg.svdvals(matrix)
    if svd is None:
        assert kind in ("sparse", "composition", "stack", "radon")
        assert operator.norm == pytest.approx(float(values.max()), rel=1e-2)
        return
    own = svd.values.expand(len(values), -1).sort(dim=1, descending=True).values[:, : values.shape[1]]
    assert torch.allclose(own[:, : values.shape[1]], values[:, : own.shape[1]], atol=1e-9)
    assert torch.allclose(svd.back(svd.to(x)), x, atol=1e-10)
    assert torch.allclose(operator.adjoint(y), svd.back(svd.values.square() * svd.to(x)), atol=1e-9 * operator.norm**2)
    assert torch.allclose(svd.measured(y), svd.values * svd.to(x), atol=1e-6 * operator.norm)


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_absorbed(kind):
    """A diag(s) = diag(f) A', whether an operator keeps its SVD so or not."""
    operator = made(kind, 4)
    x = states(operator, 1)
    for scale in (torch.full((1, 1), 2.5, dtype=torch.float64), states(operator, 2).abs()[:1] + 0.1):
        inner, factor = operator.absorb(scale)
        assert torch.allclose(operator.forward(scale.reshape(-1, *scale.shape[1:]) * x), factor * inner.forward(x))
        if kind in ("mask", "pooling", "weighted", "matrix"):
            assert inner.svd() is not None


@pytest.mark.parametrize("kind", ["masks", "matrices", "fourier of cases", "some blocks"])
def test_parameters_of_cases_are_cut_with_the_rows(kind):
    operator = made(kind, 3)
    x = states(operator)
    rows = torch.tensor([2, 0, 2, 1])
    cut = operator.with_parameters({name: value[rows] for name, value in operator.parameters().items()})
    assert operator.cases == 3
    assert cut.cases == 4
    assert torch.equal(cut.forward(x[rows]), operator.forward(x)[rows])
    inner = Composition((Scaling(torch.ones(1, *operator.output)), operator))
    assert next(iter(inner.parameters())).startswith("factors1.")
    again = inner.with_parameters({name: value[rows] for name, value in inner.parameters().items()})
    assert torch.allclose(again.forward(x[rows]), operator.forward(x)[rows])


def test_pooling_of_fields_by_hand():
    x = torch.arange(8, dtype=torch.float64).reshape(1, 2, 4)
    assert AveragePooling((2, 4), (2, 2)).forward(x).tolist() == [[[2.5, 4.5]]]
    assert AveragePooling((2, 4), (4, 1)).output == (2, 1)
    assert AveragePooling((2, 4), (4,), total=True).forward(x).tolist() == [[[6.0], [22.0]]]
    weights = torch.tensor([[1.0, 3.0, 1.0, 1.0]] * 2)
    assert AveragePooling((2, 4), (2, 2), weights).forward(x).flatten().tolist() == [2.75, 4.5]
    # The pseudo-inverse is the nearest enlargement, not the adjoint.
    assert AveragePooling((2, 4), (2, 2)).pseudo_inverse(torch.tensor([[[1.0, 2.0]]]))[0, 0].tolist() == [1, 1, 2, 2]


def test_blur_by_hand():
    x = torch.zeros(1, 6, dtype=torch.float64)
    x[0, 0] = 1.0
    kernel = torch.tensor([0.2, 0.5, 0.3])
    assert Blur((6,), kernel=kernel).forward(x)[0].tolist() == pytest.approx([0.5, 0.3, 0, 0, 0, 0.2], abs=1e-7)


def test_line_integrals_are_those_of_scikit_image():
    """A smooth phantom of odd and of even width, 2 %; and the norm is 1."""
    from skimage.transform import radon

    for side in (32, 33):
        axis = torch.arange(float(side), dtype=torch.float64) - side // 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        phantom = torch.exp(-((x - 3) ** 2 + (y + 4) ** 2) / 18) + 0.5 * torch.exp(
            -((x + 5) ** 2 / 8 + (y - 2) ** 2 / 30)
        )
        angles = [0.0, 20.0, 45.0, 90.0, 133.0, 170.0]
        operator = Radon((side, side), angles)
        theirs = torch.from_numpy(radon(phantom.numpy(), theta=angles, circle=True)).T
        ours = operator.forward(phantom[None])[0] / operator.factor
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02
        assert operator.norm == pytest.approx(1.0, abs=1e-3)


def test_operators_that_are_not_linear():
    x = torch.tensor([[-2.0, 0.4, 3.0]], dtype=torch.float64, requires_grad=True)
    assert Clipped((3,), -1, 1).forward(x).tolist() == [[-1.0, 0.4, 1.0]]
    assert Quantised((3,), 0.5).forward(x).tolist() == [[-2.0, 0.5, 3.0]]
    (slope,) = torch.autograd.grad(Quantised((3,), 0.5).forward(x).sum(), x)
    assert slope.tolist() == [[1.0, 1.0, 1.0]]
    sizes = Magnitude((3,), 1).forward(x)
    assert sizes.shape == (1, 4)
    assert sizes.square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-6)


# Other libraries ----------------------------------------------------------------------------------------------------


def physics(wrong=0.0):
    matrix = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    return types.SimpleNamespace(A=lambda x: x @ matrix.T, A_adjoint=lambda y: y @ (matrix + wrong))


def test_a_physics_is_an_operator():
    operator = Adjointed((6,), physics())
    assert operator.output == (5,)
    assert dot_test(operator) < 1e-5


def test_a_wrong_adjoint_is_refused_by_how_much():
    with pytest.raises(AnydiffError, match=r"differ by 0\.\d+ of .*repair it"):
        Adjointed((6,), physics(wrong=1.0))
    with pytest.raises(AnydiffError, match="no method A_adjoint"):
        Adjointed((6,), types.SimpleNamespace(A=lambda x: x))


def test_matvec_is_an_operator_with_a_gradient():
    matrix = np.random.default_rng(0).normal(size=(4, 6))
    operator = Matvec((2, 3), SciPyOperator((4, 6), matvec=lambda x: matrix @ x, rmatvec=lambda y: matrix.T @ y))
    x = states(operator).requires_grad_()
    y = operator.forward(x)
    assert torch.allclose(y, x.flatten(1) @ torch.from_numpy(matrix).T)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope[0].flatten(), torch.from_numpy(matrix).sum(0))
    assert torch.allclose(operator.forward(operator.pseudo_inverse(y.detach())), y.detach(), atol=1e-8)
    with pytest.raises(AnydiffError, match=r"adjoint of .* is not the operator's"):
        Matvec((6,), SciPyOperator((4, 6), matvec=lambda x: matrix @ x, rmatvec=lambda y: 2 * matrix.T @ y))
    with pytest.raises(AnydiffError, match=r"give an operator of shape \(k, 5\)"):
        Matvec((5,), SciPyOperator((4, 6), matvec=lambda x: matrix @ x))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Mask((3, 4), torch.ones(4, 3)), r"mask has shape \(4, 3\), but a state has \(3, 4\)"),
        (lambda: AveragePooling((1, 28, 28), 3), "28 entries, which are not whole blocks; take one of 2, 4, 7, 14, 28"),
        (lambda: AveragePooling((1, 4, 4), 2, torch.zeros(4, 4)), "above 0"),
        (lambda: AveragePooling((1, 4, 4), 0), "factor"),
        (lambda: Matrix((3,), torch.ones(2, 4)), "2 x 4, but states of shape"),
        (lambda: Blur((1, 8, 8)), "a standard deviation or a kernel"),
        (lambda: Blur((1, 8, 8), std=-1.0), "std is -1"),
        (lambda: Blur((4,), kernel=torch.ones(5)), "larger than the state's"),
        (lambda: Fourier((1, 4, 4), torch.ones(3, 4)), "one truth value per frequency"),
        (lambda: Radon((8, 8), [0.0, 45.0, 360.0]), "the angle 0 degrees is given twice"),
        (lambda: Radon((8,), 4), "two axes at least"),
        (lambda: Clipped((3,), 1.0, 0.0), "low below high"),
        (lambda: Quantised((3,), 0.0), "step is 0"),
        (lambda: Composition((Mask((3,), [True] * 3), Mask((4,), [True] * 4))), "change their order or sizes"),
        (lambda: Stack((Mask((3,), [True] * 3), Mask((4,), [True] * 4))), "states of one shape"),
        (lambda: observing(Quantised((3,), 1.0), torch.tensor([[True, False, True]])), "not linear"),
    ],
)
def test_what_is_refused(make, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        make()
