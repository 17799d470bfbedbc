"""Training: settings, the fit loop under Lightning Fabric, averaged weights, and the run folder."""

from anydiff.training.companions import meet
from anydiff.training.devices import Hardware
from anydiff.training.ema import EMA
from anydiff.training.events import TrainingEvents
from anydiff.training.fit import TrainingResult, fit
from anydiff.training.method import Average, Losses, ObjectiveMethod, TrainingMethod
from anydiff.training.optimisers import OPTIMISERS, SCHEDULES, Optimiser
from anydiff.training.run import RunFolder
from anydiff.training.settings import TrainingSettings
from anydiff.training.shared_time import SharedTime
from anydiff.training.weights import load_into, load_weights, save_weights, weights_hash

__all__ = [
    "EMA",
    "OPTIMISERS",
    "SCHEDULES",
    "Average",
    "Hardware",
    "Losses",
    "ObjectiveMethod",
    "Optimiser",
    "RunFolder",
    "SharedTime",
    "TrainingEvents",
    "TrainingMethod",
    "TrainingResult",
    "TrainingSettings",
    "fit",
    "load_into",
    "load_weights",
    "meet",
    "save_weights",
    "weights_hash",
]
