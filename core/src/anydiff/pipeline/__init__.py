"""What a user holds: runs and pipelines (DESIGN 7 and 9)."""

from anydiff.pipeline.optimise import Ascent, Optimised, Round, optimise_states
from anydiff.pipeline.pipeline import Pipeline, load
from anydiff.pipeline.sampling import SampleOptions
from anydiff.pipeline.train import train

__all__ = ["Ascent", "Optimised", "Pipeline", "Round", "SampleOptions", "load", "optimise_states", "train"]
