"""Editing: samples that are already there as noises of a plan, and what other noises or conditions make of them."""

from anydiff.editing.inversion import Trajectory, inverted
from anydiff.editing.invert import invert
from anydiff.editing.record import NoiseRecord

__all__ = ["NoiseRecord", "Trajectory", "invert", "inverted"]
