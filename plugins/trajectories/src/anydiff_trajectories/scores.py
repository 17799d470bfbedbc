"""Normalised returns: 100 (R - R_min) / (R_max - R_min), R the undiscounted return of an episode.

The reference pairs are those of D4RL (Fu et al. 2020, arXiv:2004.07219; numbers as published in the package ``d4rl``
1.1, file ``infos.py``, Apache-2.0): R_min is a random policy, R_max an expert. All qualities of one robot, and v1 and
v2 of locomotion, share a pair. The pairs of this package's own environments were measured here with 1000 episodes
each (seeds 0..999): random actions, and the controllers of :mod:`anydiff_trajectories.controllers` without noise.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import UnknownNameError

Returns = TypeVar("Returns", float, NDArray[np.float64])

REFERENCE: dict[str, tuple[float, float]] = {
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "maze2d-open": (0.01, 20.66),
    "maze2d-umaze": (23.85, 161.86),
    "maze2d-medium": (13.13, 277.39),
    "maze2d-large": (6.7, 273.99),
    "maze2d-open-dense": (11.17817, 27.166538620695782),
    "maze2d-umaze-dense": (68.537689, 193.66285642381482),
    "maze2d-medium-dense": (44.264742, 297.4552547777125),
    "maze2d-large-dense": (30.569041, 303.4857382709002),
    "antmaze": (0.0, 1.0),
    "kitchen": (0.0, 4.0),
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "relocate": (-6.425911, 4233.877797728884),
    "door": (-56.512833, 2880.5693087298737),
    "minigrid-fourrooms": (0.01442, 2.89685),
    "flow-ring": (-165.22, 24.42),
    "flow-merge": (118.67993, 330.03179),
    "carla-lane": (-0.8503839912088142, 1023.5784385429523),
    "carla-town": (-114.81579500772153, 2440.1772022247314),
    "bullet-halfcheetah": (-1275.766996, 2381.6725),
    "bullet-hopper": (20.058972, 1441.8059623430963),
    "bullet-ant": (373.705955, 2650.495),
    "bullet-walker2d": (16.523877, 1623.6476303317536),
    "bullet-maze2d-open": (8.75, 64.15),
    "bullet-maze2d-umaze": (32.46, 153.99),
    "bullet-maze2d-medium": (14.87, 238.05),
    "bullet-maze2d-large": (1.82, 285.92),
}
"""(R_min, R_max) by family; ``halfcheetah-medium-replay-v2`` belongs to ``halfcheetah``."""

OWN: dict[str, tuple[float, float]] = {
    "anydiff/Maze-v0": (0.0, 64.7),
    "Pendulum-v1": (-1200.0, -147.0),
}
"""(R_min, R_max) of environments this package makes data of."""

GYMNASIUM: dict[str, str] = {"HalfCheetah": "halfcheetah", "Hopper": "hopper", "Walker2d": "walker2d", "Ant": "ant"}
"""Gymnasium's robots and their family in D4RL."""


def reference_scores(name: str) -> tuple[float, float]:
    """(R_min, R_max) of a D4RL data set (``hopper-medium-v2``) or a Gymnasium id (``Hopper-v5``).

    Raises:
        UnknownNameError: no reference is known for it.
    """
    if name in OWN:
        return OWN[name]
    family = GYMNASIUM.get(name.rpartition("-v")[0], name)
    matching = [known for known in REFERENCE if family == known or family.startswith(f"{known}-")]
    if not matching:
        raise UnknownNameError("environment with reference scores", name, [*REFERENCE, *OWN])
    return REFERENCE[max(matching, key=len)]


def normalised_score(name: str, total_return: Returns) -> Returns:
    """100 (R - R_min) / (R_max - R_min): 0 for a random policy, 100 for an expert.

    Args:
        name: see :func:`reference_scores`.
        total_return: undiscounted return(s).
    """
    low, high = reference_scores(name)
    return 100.0 * (total_return - low) / (high - low)


def raw_return(name: str, score: Returns) -> Returns:
    """The return whose normalised score is ``score``."""
    low, high = reference_scores(name)
    return low + score / 100.0 * (high - low)
