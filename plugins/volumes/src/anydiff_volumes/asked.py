"""The condition of a sequence from what a user writes: scans on disk, the times of the scans, the time to be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff_volumes.files import read_sequence
from anydiff_volumes.placement import millimetres

if TYPE_CHECKING:
    from anydiff_volumes.domain import Volumes

NAMES = ("frames", "times", "target_time")


def asked_sequence(domain: Volumes, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
    """The conditions of the frame behind one sequence, ``count`` times.

    ``frames`` is a folder of volumes on the domain's grid, in the order of the names, or one NIfTI file whose fourth
    axis is time; ``times`` is a comma list of their times, ``target_time`` that of the frame to be drawn, all in
    [0, 1]. By default frame i of n stands at i / T, T being the domain's ``frames``, and the one to be drawn at n / T.

    Raises:
        UnknownNameError: another name.
        AnydiffError: no frames, too many, frames off the grid or of different places, or times that do not increase.
    """
    for name in text:
        if name not in NAMES:
            raise UnknownNameError("condition", name, NAMES)
    if not text:
        return {}
    if "frames" not in text:
        raise AnydiffError(f"{', '.join(text)} belongs to a sequence; give its volumes too, frames=FOLDER.")
    path = Path(text["frames"]).expanduser()
    images = read_sequence(path)
    if len(images) >= domain.frames:
        raise AnydiffError(
            f"frames {str(path)!r} holds {len(images)} volumes, but the model looks at up to {domain.frames - 1} "
            "frames before the one it draws; give the latest of them."
        )
    _check_one_place(images, str(path))
    times, target = _times(text, len(images), domain.frames)
    states = torch.zeros(domain.frames, *domain.shape)
    states[: len(images)] = domain.encode(images)[:, 0]
    moments, seen = torch.zeros(domain.frames), torch.zeros(domain.frames)
    moments[: len(images)], seen[: len(images)] = torch.tensor(times), 1.0
    row = {"frames": states, "seen": seen, "times": moments, "target_time": torch.tensor([target])}
    return {name: value[None].repeat(count, *[1] * value.ndim) for name, value in row.items()}


def _times(text: Mapping[str, str], count: int, frames: int) -> tuple[list[float], float]:
    """When the frames were seen and when the one to be drawn is."""
    even = ",".join(repr(number / frames) for number in range(count))
    times = [_time("times", part) for part in text.get("times", even).split(",")]
    target = _time("target_time", text.get("target_time", repr(count / frames)))
    if len(times) != count:
        raise AnydiffError(f"times are {len(times)} numbers, but frames are {count}; give one time for each.")
    if not all(one < other for one, other in zip([*times], [*times[1:], target], strict=True)):
        raise AnydiffError(
            f"times are {times} and target_time is {target:g}, but must increase from frame to frame up to the target."
        )
    return times, target


def _time(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise AnydiffError(
            f"{name} holds {text.strip()!r}, but a time is a number from 0 to 1; scale the sequence to it."
        )
    return value


def _check_one_place(images: Sequence[Any], name: str) -> None:
    """Refuse frames that do not lie at one place: a patient who moved is no change of the tissue."""
    first = millimetres(images[0])
    for number, image in enumerate(images):
        apart = float(np.abs(millimetres(image) - first).max())
        if apart > 1e-2 * nibabel.affines.voxel_sizes(first).min():
            raise AnydiffError(
                f"frame {number} of {name!r} lies up to {apart:.3g} mm from frame 0 (their affines differ); align them."
            )
