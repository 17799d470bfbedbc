"""What a sampler calls: anything that returns E[x_0 | x_t], trained or exact."""

from anydiff.denoisers.base import (
    Denoiser,
    FunctionDenoiser,
    as_denoiser,
    batch_times,
)
from anydiff.denoisers.interpolant_oracle import InterpolantOracle, Mixture
from anydiff.denoisers.kinds import KINDS, PredictionKind, conversion
from anydiff.denoisers.network import NetworkDenoiser
from anydiff.denoisers.oracles import (
    GaussianMixtureOracle,
    GaussianOracle,
    GaussianSequence,
    LinearGaussianOracle,
    MeasuredMixtureOracle,
    MixtureOracle,
)
from anydiff.denoisers.past import Past
from anydiff.denoisers.potential import Potential, has_log_density, log_density, require_smooth
from anydiff.denoisers.rerouted import rerouted
from anydiff.denoisers.slices import SliceDenoiser
from anydiff.denoisers.student_t_oracle import StudentTOracle
from anydiff.denoisers.table import ChainOracle, TableOracle

__all__ = [
    "KINDS",
    "ChainOracle",
    "Denoiser",
    "FunctionDenoiser",
    "GaussianMixtureOracle",
    "GaussianOracle",
    "GaussianSequence",
    "InterpolantOracle",
    "LinearGaussianOracle",
    "MeasuredMixtureOracle",
    "Mixture",
    "MixtureOracle",
    "NetworkDenoiser",
    "Past",
    "Potential",
    "PredictionKind",
    "SliceDenoiser",
    "StudentTOracle",
    "TableOracle",
    "as_denoiser",
    "batch_times",
    "conversion",
    "has_log_density",
    "log_density",
    "require_smooth",
    "rerouted",
]
