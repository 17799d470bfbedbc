"""Editing: samples that are already there as noises of a plan, and what other noises or conditions make of them."""

from anydiff.editing.cow import COW
from anydiff.editing.cycle_diffusion import CycleDiffusion, Steering, steered
from anydiff.editing.ddib import DDIB
from anydiff.editing.edit_friendly import EditFriendly
from anydiff.editing.inversion import Trajectory, inverted
from anydiff.editing.invert import invert
from anydiff.editing.method import Edit, EditMethod, Side, Travel
from anydiff.editing.record import NoiseRecord
from anydiff.editing.sdedit import SDEdit

__all__ = [
    "COW",
    "DDIB",
    "CycleDiffusion",
    "Edit",
    "EditFriendly",
    "EditMethod",
    "NoiseRecord",
    "SDEdit",
    "Side",
    "Steering",
    "Trajectory",
    "Travel",
    "invert",
    "inverted",
    "steered",
]
