"""What training minimises: losses per example, ``objective(denoiser, clean, noise, uniform, condition)``."""

from anydiff.objectives.base import DenoisingObjective, Objective, element_mean
from anydiff.objectives.blocks import BlockDenoising
from anydiff.objectives.call import Beside, Call, network_head, network_heads, present_entries
from anydiff.objectives.coupled import Coupled, Coupling
from anydiff.objectives.cross_entropy import CrossEntropy
from anydiff.objectives.denoising import Denoising
from anydiff.objectives.discrete_bound import DiscreteBound
from anydiff.objectives.energy import denoising_energy
from anydiff.objectives.flow_matching import FlowMatching
from anydiff.objectives.fokker_planck import FokkerPlanck, fokker_planck_residual, pair_mean, require_equation
from anydiff.objectives.interpolant import InterpolantLoss
from anydiff.objectives.masked_cross_entropy import MaskedCrossEntropy
from anydiff.objectives.mixed import Mixed
from anydiff.objectives.mt_diffusion import HeadLoss, MTDiffusion
from anydiff.objectives.next_token import NextToken
from anydiff.objectives.noise_contrastive import NoiseContrastive
from anydiff.objectives.prediction import Prediction
from anydiff.objectives.rddm import AutomaticSelection, EveryRoute
from anydiff.objectives.reconstruction import Reconstruction
from anydiff.objectives.sampled import sampled
from anydiff.objectives.score_entropy import ScoreEntropy
from anydiff.objectives.stable_target import StableTarget
from anydiff.objectives.terms import Sum, Term, Weighted
from anydiff.objectives.times import TIME_LAWS, TimeLaw

__all__ = [
    "TIME_LAWS",
    "AutomaticSelection",
    "Beside",
    "BlockDenoising",
    "Call",
    "Coupled",
    "Coupling",
    "CrossEntropy",
    "Denoising",
    "DenoisingObjective",
    "DiscreteBound",
    "EveryRoute",
    "FlowMatching",
    "FokkerPlanck",
    "HeadLoss",
    "InterpolantLoss",
    "MTDiffusion",
    "MaskedCrossEntropy",
    "Mixed",
    "NextToken",
    "NoiseContrastive",
    "Objective",
    "Prediction",
    "Reconstruction",
    "ScoreEntropy",
    "StableTarget",
    "Sum",
    "Term",
    "TimeLaw",
    "Weighted",
    "denoising_energy",
    "element_mean",
    "fokker_planck_residual",
    "network_head",
    "network_heads",
    "pair_mean",
    "present_entries",
    "require_equation",
    "sampled",
]
