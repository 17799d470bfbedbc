"""The sampler that a calibration stands for: whose artefact it is, and the plan that the artefact compiles to."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anydiff.calibration import Artefact, Entry, Method, framed, guidance_text, plan_of_entry
from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers import Wrapper
from anydiff.errors import AnydiffError
from anydiff.recipes import SamplingSettings
from anydiff.registry import registry
from anydiff.samplers import PlanSampler, SampleRequest
from anydiff.samplers.sampler import Chunk
from anydiff.solvers import Start
from anydiff.states import Conditioning, StateSpec

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Calibrated(PlanSampler):
    """A calibrated plan, and where its calibration says that it begins.

    Attributes:
        start: None for the prior.
        entry: what the calibration found.
        remark: what is told with every sample set; empty for nothing.
    """

    start: Start | None = None
    entry: Entry | None = None
    remark: str = ""

    def warn(self, denoiser: Denoiser, layers: Sequence[Wrapper], condition: Conditioning) -> None:
        """As always, and what the calibration says of its samples."""
        super().warn(denoiser, layers, condition)
        if self.remark:
            warnings.warn(self.remark, stacklevel=2)

    def chunks(self, request: SampleRequest, denoiser: Denoiser, spec: StateSpec) -> Iterator[Chunk]:
        """As always; the states to begin with by ``start``, unless the request brings its own."""
        if self.start is not None and request.start is None:
            request = replace(request, start=self.start)
        return super().chunks(request, denoiser, spec)


def identity_of(pipeline: Pipeline) -> dict[str, str]:
    """What an artefact belongs to: the weights, and the recipe without its defaults for sampling and its metrics."""
    recipe = pipeline.recipe.model_copy(update={"sampling": SamplingSettings(), "metrics": (), "help": ""})
    return {"weights": pipeline.weights_hash, "recipe": recipe.hash}


def method_of(name: str, options: Mapping[str, Any]) -> Method:
    """A method of calibration from its name and options.

    Raises:
        UnknownNameError: no such method.
        AnydiffError: no such option.
    """
    made = registry().build("calibrations", name, **options)
    if not isinstance(made, Method):
        raise AnydiffError(f"the method of calibration {name!r} builds a {type(made).__name__}, which is none.")
    return made


def calibrated_sampler(
    pipeline: Pipeline, calibration: Artefact | str | Path, nfe: int | None, beside: Mapping[str, Any],
    layers: Sequence[Wrapper],
) -> Calibrated:  # fmt: skip
    """The sampler that an artefact, or the file that holds one, stands for.

    Raises:
        AnydiffError: it belongs to another model, or a solver, grid or end stands beside it.
        NotApplicableError: it has nothing for so many calls or for this guidance.
    """
    for name, value in beside.items():
        if value is not None:
            raise AnydiffError(
                f"{name} is {value!r}, but a calibration has its own solver, grid and end; leave {name} or the "
                "calibration out."
            )
    artefact = calibration if isinstance(calibration, Artefact) else Artefact.load(calibration)
    calls = pipeline.recipe.sampling.nfe if nfe is None else nfe
    spec = pipeline.domain.spec if pipeline.latent is None else pipeline.latent.spec
    artefact.require(framed(identity_of(pipeline), pipeline.denoiser.path, spec))
    entry = artefact.entry(calls, guidance_text(layers))
    method = method_of(artefact.method, artefact.options)
    plan = plan_of_entry(artefact, method, pipeline.denoiser.path, calls, layers)
    return Calibrated(plan, method.start(entry.values), entry, method.remark(entry.values))
