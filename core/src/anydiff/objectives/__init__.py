"""What training minimises: losses per example, ``objective(denoiser, clean, noise, uniform, condition)``."""

from anydiff.objectives.base import Objective, element_mean, present_entries
from anydiff.objectives.cross_entropy import CrossEntropy
from anydiff.objectives.denoising import Denoising
from anydiff.objectives.energy import denoising_energy
from anydiff.objectives.flow_matching import FlowMatching
from anydiff.objectives.reconstruction import Reconstruction
from anydiff.objectives.times import TIME_LAWS, TimeLaw

__all__ = [
    "TIME_LAWS",
    "CrossEntropy",
    "Denoising",
    "FlowMatching",
    "Objective",
    "Reconstruction",
    "TimeLaw",
    "denoising_energy",
    "element_mean",
    "present_entries",
]
