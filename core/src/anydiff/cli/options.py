"""What several commands ask alike, as objects: typer reads each field as an option, and the command gets the object."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from anydiff.cli import common


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn; the fields are the options of their names."""

    nfe: common.Nfe = None
    solver: common.SolverName = None
    option: common.SolverOption = None
    grid: common.GridName = None
    end: common.End = None
    guidance: common.Guidance = None
    guidance_option: common.GuidanceOption = None

    def given(self, run: Run) -> dict[str, Any]:
        """The keyword arguments of ``Pipeline.sample`` that these options and those of ``run`` stand for.

        Raises:
            AnydiffError: a text that cannot be read, or a device that is not there.
        """
        sampling = common.sampling_options(self.solver, self.nfe, self.grid, self.end, self.option)
        guidance = common.guiding(self.guidance, self.guidance_option)
        device = common.check_device(run.device)
        return {**sampling, "seed": run.seed, "guidance": guidance, "device": device, "batch_size": run.batch_size}


@dataclass(frozen=True)
class OwnDrawing(Drawing):
    """The same, with what belongs to the model itself: its calibration, another route of its path, its temperature."""

    calibration: common.Calibration = None
    path_option: common.PathOption = None
    temperature: common.Temperature = None

    def given(self, run: Run) -> dict[str, Any]:
        """See :meth:`Drawing.given`; the route is no argument, but another pipeline (:func:`common.on_path`)."""
        own = {} if self.calibration is None else {"calibration": str(self.calibration)}
        return {**super().given(run), **own, "temperature": self.temperature}


@dataclass(frozen=True)
class Run:
    """Which samples, how many at once, and where; the fields are the options of their names."""

    seed: common.Seed = 0
    batch_size: common.BatchSize = 256
    device: common.Device = "cpu"


def names(*kinds: type) -> list[str]:
    """The options that objects of these ``kinds`` stand for, as parameters are called."""
    return [field.name for kind in kinds for field in dataclasses.fields(kind)]


def spread(command: Callable[..., Any]) -> Callable[..., Any]:
    """``command`` as typer reads it: where a parameter is such an object, the object's own fields stand."""
    hints = get_type_hints(command, include_extras=True)
    kinds: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    if not kinds:
        return command
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in kinds:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
            continue
        kind = kinds[parameter.name]
        own = get_type_hints(kind, include_extras=True)
        parameters += [
            parameter.replace(name=field.name, kind=parameter.KEYWORD_ONLY, default=field.default,
                              annotation=own[field.name])
            for field in dataclasses.fields(kind)
        ]  # fmt: skip

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        made = {name: kind(**{each: given.pop(each) for each in names(kind)}) for name, kind in kinds.items()}
        return command(**given, **made)

    spread_out: Any = run
    spread_out.__signature__ = inspect.Signature(parameters)
    spread_out.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
