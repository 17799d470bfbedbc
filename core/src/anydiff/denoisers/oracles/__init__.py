"""Denoisers that are exact: what samplers, guidance and objectives are tested against.

All hold their parameters in float64 and compute in the dtype of the state.
"""

from anydiff.denoisers.oracles.gaussian import GaussianMixtureOracle as GaussianMixtureOracle
from anydiff.denoisers.oracles.gaussian import GaussianOracle as GaussianOracle
from anydiff.denoisers.oracles.measured import LinearGaussianOracle as LinearGaussianOracle
from anydiff.denoisers.oracles.measured import MeasuredMixtureOracle as MeasuredMixtureOracle
from anydiff.denoisers.oracles.mixture import MixtureOracle as MixtureOracle
from anydiff.denoisers.oracles.sequence import GaussianSequence as GaussianSequence
