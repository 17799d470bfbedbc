"""Operators: what a measurement makes of a state, with adjoints that are tested (:mod:`.base` is the face)."""

from anydiff.inverse.operators.adapters import Adjointed, Matvec, dot_test
from anydiff.inverse.operators.base import SVD, Composition, LinearOperator, Operator, Scaling, Stack, composed, dense
from anydiff.inverse.operators.blur import Blur
from anydiff.inverse.operators.differences import Differences
from anydiff.inverse.operators.fourier import Fourier
from anydiff.inverse.operators.mask import Mask, observing
from anydiff.inverse.operators.matrix import Matrix, SparseMatrix
from anydiff.inverse.operators.nonlinear import Clipped, Magnitude, Quantised
from anydiff.inverse.operators.pooling import AveragePooling
from anydiff.inverse.operators.radon import Radon

__all__ = [
    "SVD",
    "Adjointed",
    "AveragePooling",
    "Blur",
    "Clipped",
    "Composition",
    "Differences",
    "Fourier",
    "LinearOperator",
    "Magnitude",
    "Mask",
    "Matrix",
    "Matvec",
    "Operator",
    "Quantised",
    "Radon",
    "Scaling",
    "SparseMatrix",
    "Stack",
    "composed",
    "dense",
    "dot_test",
    "observing",
]
