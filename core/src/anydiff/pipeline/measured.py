"""What was measured, made ready: the operator, and its measurement from numbers, from arrays of a file or from the
field's own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anydiff.data.arrays import array_names, read_array
from anydiff.domains import Measurement
from anydiff.errors import AnydiffError
from anydiff.inverse import MeasurementNoise
from anydiff.inverse.noise import as_noise
from anydiff.inverse.operators import LinearOperator, Operator, Radon, observing
from anydiff.registry import registry

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

NUMBERS, SINOGRAM, ANGLES = "measurement", "sinogram", "angles"
"""Arrays of an ``.npz`` file: what any operator gives; line integrals, and the angles of their projections."""


@dataclass(frozen=True)
class Measured:
    """A measurement that is ready for a problem.

    Attributes:
        operator: what was measured, of the entries that are there alone.
        found: the values, float64 ``[C, *output]`` in the operator's units, NaN where there is none.
        noise: of them.
    """

    operator: Operator
    found: Measurement
    noise: MeasurementNoise

    @classmethod
    def of(
        cls, pipeline: Pipeline, measurement: Any, operator: str | Operator, operator_options: Mapping[str, Any],
        noise: float | Tensor | MeasurementNoise, mask: Any,
    ) -> Measured:  # fmt: skip
        """What :class:`anydiff.pipeline.restore.Restoration` says of a measurement.

        Raises:
            AnydiffError: a size does not fit, or nothing was observed.
        """
        shape = tuple(pipeline.domain.spec.shape)
        if isinstance(operator, Operator) and operator_options:
            raise AnydiffError("operator_options go with an operator given by name; set them on the operator itself.")
        arrays = _arrays(measurement)
        masked = operator == "mask"
        made: Operator | None = operator if isinstance(operator, Operator) else None
        if made is None and not masked:
            made = build_operator(str(operator), shape, {**_angles(operator, arrays), **operator_options})
        output = shape if made is None else made.output
        law = as_noise(noise)
        if arrays:
            if isinstance(mask, (str, Path)):
                raise AnydiffError(f"--mask is {str(mask)!r}, but arrays tell gaps by NaN; leave it out.")
            numbers, law = _numbers(made, arrays, law)
            found = Measurement(_array(pipeline, numbers, output))
        elif isinstance(measurement, (str, Path)):
            found = pipeline.domain.read_measurement(
                measurement, output, mask if isinstance(mask, (str, Path)) else None
            )
        else:
            found = Measurement(_array(pipeline, measurement, output))
        values = _with_mask(found.values, mask, output)
        present = ~values.isnan()
        if not bool(present.flatten(1).any(1).all()):
            raise AnydiffError(
                "the measurement observes nothing: its mask, or all of its values, are empty; check the mask."
            )
        if masked:
            made = build_operator("mask", shape, {"mask": present, **operator_options})
            present = made.observed(values)
        assert made is not None
        return cls(observing(made, present), replace(found, values=values), law)


def _arrays(measurement: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an ``.npz`` file that holds numbers of an operator; empty of everything else.

    Raises:
        AnydiffError: it holds numbers twice, or angles alone.
    """
    if not isinstance(measurement, (str, Path)) or Path(measurement).suffix.lower() != ".npz":
        return {}
    names = [name for name in array_names(measurement) if name in (NUMBERS, SINOGRAM, ANGLES)]
    held = [name for name in names if name != ANGLES]
    if not held:
        return {}
    if len(held) > 1:
        raise AnydiffError(
            f"{str(measurement)!r} holds the arrays {NUMBERS!r} and {SINOGRAM!r}; keep one: line integrals are a "
            "sinogram."
        )
    return {name: read_array(measurement, name) for name in names}


def _angles(operator: str | Operator, arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Options of ``radon`` that the file says."""
    if operator != "radon" or ANGLES not in arrays:
        return {}
    found = {"angles": [float(each) for each in np.asarray(arrays[ANGLES]).ravel()]}
    return {**found, "detectors": int(arrays[SINOGRAM].shape[-1])} if SINOGRAM in arrays else found


def _numbers(
    operator: Operator | None, arrays: Mapping[str, np.ndarray[Any, Any]], noise: MeasurementNoise
) -> tuple[Any, MeasurementNoise]:
    """The numbers in the operator's units, and their noise, which is in the units of the file.

    Raises:
        AnydiffError: line integrals of another operator than ``radon``, or at other angles.
    """
    if ANGLES in arrays and isinstance(operator, Radon):
        told = np.asarray(arrays[ANGLES], dtype=np.float64).ravel()
        if len(told) != len(operator.angles) or not np.allclose(told, operator.angles, atol=1e-3):
            raise AnydiffError(
                f"the file has the angles {_few(told)}, but the operator {_few(operator.angles)}; leave the option "
                "angles out, or give those of the file."
            )
    if NUMBERS in arrays:
        return arrays[NUMBERS], noise
    if not isinstance(operator, Radon):
        name = "mask" if operator is None else type(operator).__name__
        raise AnydiffError(
            f"the file holds a sinogram, but the operator is {name}; name the operator radon, or call the array "
            f"{NUMBERS!r}."
        )
    scaled = noise.divided(torch.tensor(1 / operator.factor, dtype=torch.float64))
    if scaled is None:
        raise AnydiffError(
            f"noise of the law {type(noise).__name__} cannot be scaled with a sinogram; give the measurement as the "
            f"operator does, as the array {NUMBERS!r}."
        )
    return np.asarray(arrays[SINOGRAM], dtype=np.float64) * operator.factor, scaled


def _few(angles: Any) -> str:
    shown = ", ".join(f"{each:g}" for each in list(angles)[:4])
    return f"{shown}{', ...' if len(angles) > 4 else ''} ({len(angles)} of them)"


def said(operator: Operator, values: Tensor) -> Tensor:
    """What a measurement says of each entry of the states, ``[C, *shape]``: A⁺ y, NaN where nothing was measured."""
    cases = max(len(values), operator.cases)
    if not isinstance(operator, LinearOperator):
        same = operator.output == operator.shape
        return values if same else torch.full((cases, *operator.shape), math.nan, dtype=values.dtype)
    seen = operator.observed(values)
    found = operator.pseudo_inverse(torch.where(seen, values, 0.0).expand(cases, *operator.output))
    reached = operator.adjoint(seen.to(values.dtype).expand(cases, *operator.output)) != 0
    return torch.where(reached, found, math.nan)


def build_operator(name: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> Operator:
    """The operator called ``name`` for states of ``shape``."""
    made = registry().build("operators", name, shape=shape, **options)
    if not isinstance(made, Operator):
        raise AnydiffError(
            f"the operator {name!r} builds a {type(made).__name__}, which is no anydiff.inverse.operators.Operator; "
            "derive it from that class."
        )
    return made


def _array(pipeline: Pipeline, measurement: Any, output: tuple[int, ...]) -> Tensor:
    try:
        values = torch.as_tensor(measurement)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AnydiffError(
            f"the measurement is a {type(measurement).__name__}, which is no array of numbers; give numbers in the "
            f"field's units of shape {output}, or the name of a file."
        ) from error
    values = values.double()
    values = values[None] if tuple(values.shape) == output else values
    if tuple(values.shape[1:]) != output:
        raise AnydiffError(
            f"the measurement has shape {tuple(values.shape)}, but the operator gives {output} for a state of "
            f"{tuple(pipeline.domain.spec.shape)}; give one number per measured entry, with an axis of cases in front "
            "or none."
        )
    return values


def _with_mask(values: Tensor, mask: Any, output: tuple[int, ...]) -> Tensor:
    """NaN where ``mask`` is false, too."""
    if mask is None or isinstance(mask, (str, Path)):
        return values
    seen = torch.as_tensor(mask).bool()
    if tuple(seen.shape) not in (output, (len(values), *output)):
        raise AnydiffError(
            f"mask has shape {tuple(seen.shape)}, but a measurement has {output}; give one truth value per measured "
            "entry."
        )
    wrong = seen & values.isnan()
    if bool(wrong.any()):
        raise AnydiffError(
            f"the mask says that {int(wrong.sum())} entries were observed whose value is NaN; leave them out of the "
            "mask."
        )
    return torch.where(seen, values, math.nan)
