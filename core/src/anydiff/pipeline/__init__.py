"""What a user holds: runs and pipelines (DESIGN 7 and 9)."""

from anydiff.pipeline.aggregate import Aggregate, ReadOut
from anydiff.pipeline.calibrated import Calibrated
from anydiff.pipeline.calibration import calibrated_for
from anydiff.pipeline.cost import Cost, costs, file_bytes, network_multiply_adds
from anydiff.pipeline.distil import Students, distil
from anydiff.pipeline.encoders import Encoder
from anydiff.pipeline.optimise import Ascent, Optimised, Round, optimise_states
from anydiff.pipeline.pipeline import Pipeline, load
from anydiff.pipeline.quantise import quantise
from anydiff.pipeline.restore import restore_set, units_of
from anydiff.pipeline.sampling import SampleOptions
from anydiff.pipeline.train import train

__all__ = [
    "Aggregate",
    "Ascent",
    "Calibrated",
    "Cost",
    "Encoder",
    "Optimised",
    "Pipeline",
    "ReadOut",
    "Round",
    "SampleOptions",
    "Students",
    "calibrated_for",
    "costs",
    "distil",
    "file_bytes",
    "load",
    "network_multiply_adds",
    "optimise_states",
    "quantise",
    "restore_set",
    "train",
    "units_of",
]
