"""Calibration of a pipeline: what it is searched on, what an artefact belongs to, and the plan that it compiles to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anydiff.calibration import METHODS, Artefact, Method, Setting, calibrate, framed, guidance_text, plan_of_entry
from anydiff.denoisers.wrappers import Wrapper
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.recipes import SamplingSettings
from anydiff.samplers import PlanSampler

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

SETTING = ("seed", "count", "fresh", "seconds", "calls", "report")


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
    if name not in METHODS:
        raise UnknownNameError("method of calibration", name, METHODS)
    try:
        return METHODS[name](**options)
    except TypeError:
        known = ", ".join(METHODS[name].__dataclass_fields__)  # type: ignore[attr-defined]
        raise AnydiffError(f"the method {name!r} has no options {', '.join(options)}; it has {known}.") from None


def calibrated(pipeline: Pipeline, method: str, options: Mapping[str, Any]) -> Artefact:
    """What a solver learns for a pipeline.

    Args:
        pipeline: the model.
        method: ``dc`` (:class:`anydiff.calibration.DCSolver`).
        options: ``nfe``, numbers of calls (default: the recipe's); ``guidance``, scales, or lists of guidances, for
            each of which it is searched (default: the recipe's own alone); ``condition`` as text, the same for all
            (default: as the held-out data is); ``seed``, ``count`` (search noises, 10), ``fresh`` (noises
            that decide, 64), ``seconds``, ``calls``, ``report``, as :class:`anydiff.calibration.Setting` has them;
            ``out`` and ``command`` as :func:`anydiff.calibration.calibrate` has them; and the method's own.

    Raises:
        AnydiffError: an option is unknown or wrong, or the limits are reached (what is finished is in ``out``).
    """
    from anydiff.pipeline.sampling import Draws, SampleOptions

    given = dict(options)
    nfe = given.pop("nfe", None) or [pipeline.recipe.sampling.nfe]
    guidance = given.pop("guidance", None) or [None]
    condition, out, command = given.pop("condition", None), given.pop("out", None), given.pop("command", "")
    setting = {name: given.pop(name) for name in SETTING if name in given}
    chosen = method_of(method, given)
    held_out = pipeline.reference() if condition is None else None

    def draws(numbers: Sequence[int], layers: Any) -> Draws:
        asked: dict[str, Any] = {"seed": setting.get("seed", 0), "guidance": layers}
        if held_out is not None:
            asked |= {"condition": held_out.asked(len(numbers)), "cases": min(len(numbers), len(held_out))}
        else:
            asked["condition"] = condition
        return Draws.of(pipeline, numbers, SampleOptions(**asked))

    begun = [draws(range(2), each) for each in guidance]
    named = {guidance_text(each.around()): asked for each, asked in zip(begun, guidance, strict=True)}
    full = Setting(
        nfe=[nfe] if isinstance(nfe, int) else nfe,
        guidances=[each.around() for each in begun],
        request=lambda numbers, layers: draws(numbers, named[guidance_text(layers)]).request(),
        **setting,
    )
    denoiser, spec = begun[0].denoiser, begun[0].spec
    return calibrate(denoiser, spec, chosen, full, identity_of(pipeline), out=out, command=command)


def calibrated_sampler(
    pipeline: Pipeline, calibration: Artefact | str | Path, nfe: int | None, beside: Mapping[str, Any],
    layers: Sequence[Wrapper],
) -> PlanSampler:  # fmt: skip
    """The sampler that an artefact, or the file that holds one, stands for.

    Raises:
        AnydiffError: it belongs to another model, has nothing for so many calls or for this guidance, or a solver, grid
            or end stands beside it.
    """
    artefact = calibration if isinstance(calibration, Artefact) else Artefact.load(calibration)
    for name, value in beside.items():
        if value is not None:
            raise AnydiffError(
                f"{name} is {value!r}, but a calibration has its own solver, grid and end; leave {name} or the "
                "calibration out."
            )
    spec = pipeline.domain.spec if pipeline.latent is None else pipeline.latent.spec
    path = pipeline.denoiser.path
    artefact.require(framed(identity_of(pipeline), path, spec))
    method = method_of(artefact.method, artefact.options)
    calls = pipeline.recipe.sampling.nfe if nfe is None else nfe
    return PlanSampler(plan_of_entry(artefact, method, path, calls, layers))
