"""Intensities: what a number means in each modality, scaled to [0, 1] and back.

CT numbers are physical (Hounsfield units: air -1000, water 0), so their window is fixed. MR intensities have no unit
and change from scan to scan, so the window is taken from the scan's own foreground and kept for the way back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.domains.kit import Limits
from anydiff.errors import AnydiffError, UnknownNameError

MODALITIES = ("mr", "ct")
CT_WINDOW = (-1000.0, 1000.0)
MR_PERCENTILES = (0.5, 99.5)


def window(low: float, high: float) -> Limits:
    """The affine map of [low, high] to [0, 1]; what lies outside is clamped."""
    return Limits(low, high, onto=(0.0, 1.0), clamp=True)


def window_of(values: NDArray[Any], modality: str, name: str) -> Limits:
    """The window of one scan.

    CT: -1000 to 1000 HU. MR: from 0 (or the least value) to the 99.5th percentile of the foreground, which is what
    lies above the 0.5th percentile and above zero.

    Raises:
        UnknownNameError: no such modality.
        AnydiffError: the values cannot be of this modality, or are all the same.
    """
    if modality not in MODALITIES:
        raise UnknownNameError("modality", modality, MODALITIES)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise AnydiffError(f"{name} is {low:g} everywhere, so there is nothing to scale; leave it out.")
    if modality == "ct":
        if low > -200:
            raise AnydiffError(
                f"{name} has no value below {low:g}, but CT in Hounsfield units has air at -1000; say "
                "modality='mr', or rescale it to Hounsfield units."
            )
        return window(*CT_WINDOW)
    if low < -200:
        raise AnydiffError(
            f"{name} has values down to {low:g}, which looks like CT in Hounsfield units; say modality='ct'."
        )
    least = min(low, 0.0)
    foreground = values[values > max(float(np.percentile(values, MR_PERCENTILES[0])), 0.0)]
    top = float(np.percentile(foreground, MR_PERCENTILES[1])) if foreground.size else high
    return window(least, top if top > least else high)


def shares(scaling: Limits, values: NDArray[Any]) -> NDArray[np.float32]:
    """``values`` as shares of the window ``scaling``, float32 in [0, 1]."""
    return scaling.encode(values.astype(np.float64)).astype(np.float32)


UNIT = Limits(0.0, 1.0)
"""Shares of a window as values of a state, [-1, 1]."""
