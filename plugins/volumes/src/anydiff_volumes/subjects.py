"""Subjects: seeded deformations of one template, at rest or in motion, with the truth known.

A subject is an anatomy φ_s = exp(v_s) of the MNI152 template and a contrast; its image at time t looks up the template
at φ_s(φ_m(x)) with φ_m = exp(a(t) v_m). Two kinds of motion stand for two kinds of longitudinal data:

- ``ageing``: the ventricles grow and the cortex recedes, a(t) = r (t - t_0) with a rate of the subject's own; visits at
  irregular times;
- ``cardiac``: a periodic contraction about one place, a(t) = A sin(2π f t + φ), with amplitude, frequency and phase of
  the subject's own; regular phases.

From one image neither rate nor phase can be told; from several they can. All numbers are pure functions of
(seed, subject).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from anydiff.states import uniform
from anydiff_volumes.deformation import compose, flow, look_up, radial_velocity, random_velocity, voxels
from anydiff_volumes.templates import mni152

Motion = Literal["ageing", "cardiac"]
GRID = (28, 32, 28)
"""Voxels of 6 mm: 168 x 192 x 168 mm around the brain."""
VENTRICLES = (0.0, -8.0, 12.0)
"""Between the lateral ventricles, in RAS+ millimetres."""
PULSATING = (0.0, 0.0, 6.0)


@dataclass(frozen=True)
class Anatomy:
    """How much subjects differ. ``amplitude`` is that of the velocity's control points, in voxels of 6 mm."""

    seed: int = 0
    amplitude: float = 1.6
    contrast: float = 0.15


@functools.cache
def _maps() -> Tensor:
    """T1, grey and white matter as means over 6 mm, sampled every 3 mm: ``[1, 3, 56, 64, 56]``.

    A lookup at the centre of a 6 mm voxel thus gives the mean over it.
    """
    template = mni152()
    maps = torch.stack([torch.from_numpy(each) for each in (template.t1, template.grey, template.white)])[None]
    padded = torch.nn.functional.pad(maps, [0, 1] * 3)
    return torch.nn.functional.avg_pool3d(padded, 2, stride=1)


@functools.cache
def affine() -> Tensor:
    """Voxel to RAS+ millimetres of the 6 mm grid, float64 ``[4, 4]``."""
    matrix = torch.from_numpy(mni152().affine).clone()
    fine = matrix[:3, :3].clone()
    # The centre of the first 6 mm voxel lies half a 3 mm voxel behind that of the first 3 mm voxel.
    matrix[:3, 3] += fine @ torch.full((3,), 0.5, dtype=torch.float64)
    matrix[:3, :3] = fine * 2
    return matrix


def _voxel(place: tuple[float, float, float]) -> list[float]:
    """A place in millimetres as voxel coordinates of the 6 mm grid."""
    inverse = torch.linalg.inv(affine())
    point = torch.tensor([*place, 1.0], dtype=torch.float64)
    coordinates: list[float] = (inverse @ point)[:3].tolist()
    return coordinates


@functools.cache
def motion_velocity(motion: Motion) -> Tensor:
    """The velocity field of a motion whose largest speed is one voxel per unit of a: ``[1, 3, *GRID]``."""
    if motion == "cardiac":
        return radial_velocity(GRID, _voxel(PULSATING), 7.0)
    # Growing ventricles push outwards (looking up moves inwards), the receding cortex follows the other way.
    ventricles = -radial_velocity(GRID, _voxel(VENTRICLES), 3.0)
    cortex = radial_velocity(GRID, _voxel((0.0, -18.0, 8.0)), 10.0)
    return ventricles + 0.6 * cortex


def anatomies(subjects: list[int], anatomy: Anatomy) -> Tensor:
    """Displacements of the subjects' anatomies ``[B, 3, *GRID]``."""
    return flow(random_velocity(GRID, anatomy.seed, subjects, amplitude=anatomy.amplitude))


def images(displacement: Tensor, subjects: list[int], anatomy: Anatomy) -> Tensor:
    """T1, grey and white matter looked up at φ: ``[B, 3, *GRID]`` in [0, 1], T1 with the subject's contrast."""
    # One 6 mm voxel is two of the fine grid, whose averaged maps stand half way between its own centres.
    places = 2 * (voxels(GRID) + displacement)
    moved = look_up(_maps().expand(len(displacement), -1, -1, -1, -1), places)
    power = (2 * uniform(anatomy.seed, subjects, 0, "contrast") - 1) * anatomy.contrast
    contrast = torch.exp(power).float().reshape(-1, 1, 1, 1, 1)
    return torch.cat([moved[:, :1].clamp(0, 1).pow(contrast), moved[:, 1:].clamp(0, 1)], dim=1)


@dataclass(frozen=True)
class Course:
    """A subject's motion: times float64 ``[T]`` in [0, 1] and a(t) ``[T]``, in voxels of largest speed."""

    times: Tensor
    extent: Tensor


def course(subject: int, motion: Motion, frames: int, seed: int) -> Course:
    """When a subject was seen, and how far its motion had come."""
    draw = {name: float(uniform(seed, [subject], 0, f"motion/{name}")[0]) for name in ("first", "second", "third")}
    step = torch.arange(frames, dtype=torch.float64)
    if motion == "cardiac":
        times = step / frames
        phase, frequency, amplitude = 2 * math.pi * draw["first"], 0.6 + 0.8 * draw["second"], 0.8 + 1.2 * draw["third"]
        return Course(times, amplitude * torch.sin(2 * math.pi * frequency * times + phase))
    jitter = torch.cat([uniform(seed, [subject], index, "motion/visit") for index in range(frames)])
    times = (step + 0.1 + 0.8 * jitter) / frames
    rate, before = 0.5 + 4.0 * draw["first"], 2.0 * draw["second"] - 1.5
    return Course(times, before + rate * (times - times[0]))


def sequence(subject: int, motion: Motion, frames: int, anatomy: Anatomy) -> tuple[Tensor, Tensor]:
    """A subject's T1 and tissue maps over time ``[frames, 3, *GRID]`` and the times ``[frames]``."""
    seen = course(subject, motion, frames, anatomy.seed)
    moved = flow(seen.extent.float().reshape(-1, 1, 1, 1, 1) * motion_velocity(motion))
    still = anatomies([subject], anatomy).expand(frames, -1, -1, -1, -1)
    return images(compose(still, moved), [subject] * frames, anatomy), seen.times
