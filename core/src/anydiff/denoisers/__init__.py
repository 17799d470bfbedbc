"""What a sampler calls: anything that returns E[x_0 | x_t], trained or exact."""

from anydiff.denoisers.base import (
    KINDS,
    Denoiser,
    FunctionDenoiser,
    PredictionKind,
    as_denoiser,
    batch_times,
    conversion,
)
from anydiff.denoisers.network import NetworkDenoiser
from anydiff.denoisers.oracles import GaussianMixtureOracle, GaussianOracle, LinearGaussianOracle

__all__ = [
    "KINDS",
    "Denoiser",
    "FunctionDenoiser",
    "GaussianMixtureOracle",
    "GaussianOracle",
    "LinearGaussianOracle",
    "NetworkDenoiser",
    "PredictionKind",
    "as_denoiser",
    "batch_times",
    "conversion",
]
