"""Way-points as measurements: a text file of lines ``t: x y``, where a trajectory was seen at which step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anydiff.data.reading import read_text
from anydiff.domains import Measurement
from anydiff.errors import AnydiffError, FileFormatError

if TYPE_CHECKING:
    from anydiff_trajectories.codec import TrajectoryCodec

SUFFIX = ".txt"
LIMIT = 1 << 24
"""Bytes of a file of way-points."""
SHAPE = "write lines 't: x y', t the step, and an empty line between two trajectories"


def read_waypoints(domain: TrajectoryCodec, path: Path, output: tuple[int, ...]) -> Measurement:
    """The observations of each trajectory at some steps, NaN at all others, ``[C, horizon, width]`` in raw units.

    A line may name fewer numbers than an observation has: the first ones, a place without its velocity.

    Raises:
        AnydiffError: the operator measures no whole states; or a step is not one of the horizon, or is told twice.
        FileFormatError: a line is no way-point.
    """
    horizon, width = shape = tuple(domain.spec.shape)
    if output != shape:
        raise AnydiffError(
            f"way-points tell entries of whole states {shape}, but this operator gives {output}; leave --operator out."
        )
    columns = domain.layout["observation"]
    cases: list[dict[int, list[float]]] = [{}]
    text = read_text(path, LIMIT, "a text file of way-points", SHAPE)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            cases += [{}] if cases[-1] else []
            continue
        where = f"line {number} of {str(path)!r}"
        step, values = _waypoint(line, where, columns.stop - columns.start)
        if not 0 <= step < horizon:
            raise AnydiffError(f"{where} names step {step}, but a trajectory has the steps 0 to {horizon - 1}.")
        if step in cases[-1]:
            raise AnydiffError(f"{where} names step {step} a second time; part trajectories by an empty line.")
        cases[-1][step] = values
    seen = [case for case in cases if case]
    if not seen:
        raise FileFormatError(f"{str(path)!r} holds no way-points; {SHAPE}.")
    found = torch.full((len(seen), horizon, width), math.nan, dtype=torch.float64)
    for row, case in enumerate(seen):
        for step, values in case.items():
            found[row, step, columns.start : columns.start + len(values)] = torch.tensor(values, dtype=torch.float64)
    return Measurement(found)


def _waypoint(line: str, where: str, size: int) -> tuple[int, list[float]]:
    step, colon, rest = line.partition(":")
    try:
        found = int(step), [float(each) for each in rest.replace(",", " ").split()]
    except ValueError:
        found = 0, []
    if not colon or not 1 <= len(found[1]) <= size or not all(map(math.isfinite, found[1])):
        raise FileFormatError(f"{where} is {line.strip()!r}, but must be 't: x y' with 1 to {size} numbers.")
    return found
