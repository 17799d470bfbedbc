"""A matrix on flattened states, dense or sparse."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.operators.base import RELATIVE_RANK, SVD, LinearOperator, checked_shape, rows_first


@dataclass(frozen=True, eq=False)
class Matrix(LinearOperator):
    """A x = M x of a dense matrix on flattened states.

    Args:
        shape: of one state.
        matrix: M ``[k, n]``, or one per case ``[C, k, n]``.
        output: of one measurement; ``(k,)`` by default.
    """

    per_case = ("matrix",)
    shape: tuple[int, ...]
    matrix: Tensor
    output: tuple[int, ...]

    def __init__(self, shape: Sequence[int], matrix: Any, output: Sequence[int] | None = None) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        object.__setattr__(self, "matrix", rows_first(matrix, 2, "matrix"))
        rows = int(self.matrix.shape[1])
        object.__setattr__(self, "output", (rows,) if output is None else checked_shape(output))
        _check(tuple(self.matrix.shape[1:]), self.shape, self.output)

    def forward(self, x: Tensor) -> Tensor:
        """M x."""
        return torch.matmul(self.matrix.to(x), x.flatten(1)[..., None])[..., 0].reshape(-1, *self.output)

    def adjoint(self, y: Tensor) -> Tensor:
        """Mᵀ y."""
        return torch.matmul(self.matrix.mT.to(y), y.flatten(1)[..., None])[..., 0].reshape(-1, *self.shape)

    def svd(self) -> SVD:
        """By a dense decomposition, which is remembered."""
        values, basis = _decomposed(self.matrix)
        return SVD(
            values,
            lambda x: torch.matmul(basis.mT.to(x), x.flatten(1)[..., None])[..., 0],
            lambda c: torch.matmul(basis.to(c), c[..., None])[..., 0].reshape(-1, *self.shape),
            self,
        )

    def absorb(self, scale: Tensor) -> tuple[LinearOperator, Tensor]:
        """The matrix with scaled columns."""
        if scale[0].numel() == 1:
            return super().absorb(scale)
        columns = scale.expand(-1, *self.shape).flatten(1)[:, None, :]
        one = torch.ones(1, *[1] * len(self.output), dtype=torch.float64)
        return Matrix(self.shape, self.matrix * columns, self.output), one


@functools.lru_cache(maxsize=8)
def _decomposed(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """S ``[1 or C, n]`` and V ``[1 or C, n, n]`` of matrices ``[1 or C, k, n]`` (by identity: tensors hash so)."""
    _, values, basis = torch.linalg.svd(matrix, full_matrices=True)
    values = torch.nn.functional.pad(values, (0, matrix.shape[2] - values.shape[1]))
    values = torch.where(values > RELATIVE_RANK * values.amax(1, keepdim=True), values, 0.0)
    return values, basis.mT


@dataclass(frozen=True, eq=False)
class SparseMatrix(LinearOperator):
    """A x = M x of a sparse matrix on flattened states, one for all cases; the adjoint is its transpose, kept beside.

    Args:
        shape: of one state.
        matrix: M ``[k, n]``: a sparse tensor, a SciPy sparse matrix, or numbers of which those that are 0 are left out.
        output: of one measurement; ``(k,)`` by default.
    """

    shape: tuple[int, ...]
    matrix: Tensor
    output: tuple[int, ...]
    transposed: Tensor = field(repr=False)

    def __init__(self, shape: Sequence[int], matrix: Any, output: Sequence[int] | None = None) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        found = _sparse(matrix)
        object.__setattr__(self, "matrix", compressed(found))
        object.__setattr__(self, "transposed", compressed(found.t()))
        object.__setattr__(self, "output", (int(found.shape[0]),) if output is None else checked_shape(output))
        _check(tuple(found.shape), self.shape, self.output)

    def forward(self, x: Tensor) -> Tensor:
        """M x."""
        return (typed(self.matrix, x.dtype, x.device) @ x.flatten(1).T).T.reshape(-1, *self.output)

    def adjoint(self, y: Tensor) -> Tensor:
        """Mᵀ y."""
        return (typed(self.transposed, y.dtype, y.device) @ y.flatten(1).T).T.reshape(-1, *self.shape)


def compressed(matrix: Tensor) -> Tensor:
    """A sparse matrix by compressed rows, which multiply fastest."""
    with warnings.catch_warnings():  # torch calls them a beta
        warnings.simplefilter("ignore", UserWarning)
        return matrix.coalesce().to_sparse_csr()


@functools.lru_cache(maxsize=16)
def typed(matrix: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A sparse matrix in another type or on another device, made once (by identity: tensors hash so)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return matrix.to(device, dtype)


def _sparse(matrix: Any) -> Tensor:
    if hasattr(matrix, "tocoo"):
        coo = matrix.tocoo()
        places = torch.stack([torch.as_tensor(coo.row).long(), torch.as_tensor(coo.col).long()])
        return torch.sparse_coo_tensor(
            places, torch.as_tensor(coo.data).double(), coo.shape, check_invariants=False
        ).coalesce()
    matrix = matrix if isinstance(matrix, Tensor) else rows_first(matrix, 2, "matrix")[0]
    if matrix.ndim != 2:
        raise AnydiffError("matrix must be a sparse tensor [k, n] or a SciPy sparse matrix; give one of them.")
    found: Tensor = matrix if matrix.layout == torch.sparse_coo else matrix.to_sparse()
    return found.double().coalesce()


def _check(matrix: tuple[int, ...], shape: tuple[int, ...], output: tuple[int, ...]) -> None:
    if matrix != (math.prod(output), math.prod(shape)):
        raise AnydiffError(
            f"the matrix is {matrix[0]} x {matrix[1]}, but states of shape {shape} have {math.prod(shape)} entries and "
            f"measurements of shape {output} have {math.prod(output)}; give one row per measured number and one column "
            "per entry."
        )
