"""Calibration of a pipeline: what a solver learns for it, and what it is searched on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anydiff.calibration import Artefact, Setting, calibrate, guidance_text
from anydiff.errors import NotApplicableError
from anydiff.pipeline.calibrated import Calibrated, calibrated_sampler, identity_of, method_of
from anydiff.pipeline.fixed import require_free, require_whole
from anydiff.pipeline.sampling import Draws, SampleOptions

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

SETTING = ("seed", "count", "fresh", "seconds", "calls", "report")


def calibrated(pipeline: Pipeline, method: str, options: Mapping[str, Any]) -> Artefact:
    """What a solver learns for a pipeline.

    Args:
        pipeline: the model.
        method: registered (``register_calibrations``): ``dc`` (:class:`anydiff.calibration.DCSolver`), ``v3``
            (:class:`anydiff.calibration.DPMSolverV3Statistics`), ``s3`` (:class:`anydiff.calibration.S3`), ``auto``
            (:class:`anydiff.calibration.AutoDiffusion`) or ``ot`` (:class:`anydiff.calibration.DPMOT`).
        options: ``nfe``, numbers of calls (default: the recipe's); ``guidance``, scales, or lists of guidances, for
            each of which it is searched (default: the recipe's own alone); ``condition`` as text, the same for all
            (default: as the held-out data is); ``seed``, ``count`` (search noises; the method's own number), ``fresh``
            (noises that decide, 64), ``seconds``, ``calls``, ``report``, as :class:`anydiff.calibration.Setting` has
            them; ``out`` and ``command`` as :func:`anydiff.calibration.calibrate` has them; and the method's own.

    Raises:
        AnydiffError: an option is unknown or wrong, the recipe's plan is fixed, or the limits are reached (what is
            finished is in ``out``).
    """
    require_free(pipeline, "a calibration of solvers")
    require_whole(pipeline, "a calibration of solvers")
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


def calibrated_for(
    pipeline: Pipeline, calibration: Artefact | str | Path, nfe: int | None, **options: Any
) -> Calibrated:
    """The sampler of a calibration for samples that are asked for by ``options``, guidance and condition among them.

    Args:
        pipeline: the model.
        calibration: the artefact or its file.
        nfe: network calls (default: the recipe's).
        options: those of :meth:`Pipeline.sample`; a condition has one row.

    Raises:
        AnydiffError: the calibration belongs to another model.
        NotApplicableError: it has nothing for so many calls or for this guidance, or belongs to another recipe.
    """
    artefact = calibration if isinstance(calibration, Artefact) else Artefact.load(calibration)
    if artefact.identity.get("recipe") != identity_of(pipeline)["recipe"]:
        raise NotApplicableError(
            f"the calibration belongs to another recipe than {pipeline.recipe.name!r}; calibrate this model, or sample "
            "the one that it was made for."
        )
    layers = Draws.of(pipeline, 1, SampleOptions.of(options)).around()
    return calibrated_sampler(pipeline, artefact, nfe, {}, layers)
