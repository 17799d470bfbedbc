"""Edits: the field's own objects as another condition, or another model, would have them; and their noises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.denoisers.wrappers import Wrapper
from anydiff.editing import EditMethod, NoiseRecord, Side, Trajectory, Travel
from anydiff.editing.method import Edit
from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import SampleSet
from anydiff.pipeline.conditions import Asked
from anydiff.pipeline.fixed import require_free, require_whole
from anydiff.pipeline.noises import facts_of
from anydiff.pipeline.sampling import Draws, SampleOptions, member_rows
from anydiff.recipes.build import build_guidance
from anydiff.registry import registry
from anydiff.samplers import Sampler
from anydiff.solvers import Solver
from anydiff.solvers.base import preferred_grid
from anydiff.solvers.plan import Plan
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

DEFAULT_METHOD = "edit-friendly"


@dataclass(frozen=True)
class Editing:
    """What :meth:`Pipeline.edit` and :meth:`Pipeline.invert` take beside the objects.

    Attributes:
        to: what they are to become: a condition, as for :meth:`Pipeline.sample`, one row for each object.
        given: what they are: a condition; without one the model is asked without.
        method: how: a registered name, or a method.
        method_options: of a method given by name.
        skip: share of the noisiest steps that are left out, an option of most methods.
        guidance: on the target's side (default: the recipe's).
        source_guidance: on the source's side (default: none).
        model: on the target's side, where it is another one of the same domain.
        members: edits of each object.
        trajectory: of :meth:`Pipeline.invert` alone: ``independent`` or ``native``.
        nfe: network calls of the whole plan (default: the recipe's).
        solver: a stochastic one, by name or made (default: the method's).
        seed: of the noise.
        batch_size: rows per network call.
        device: where to run.
        solving: ``grid``, ``end`` and the solver's own options; as keywords, all that is none of the above.
    """

    to: Asked | None = None
    given: Asked | None = None
    method: str | EditMethod = DEFAULT_METHOD
    method_options: Mapping[str, Any] = field(default_factory=dict)
    skip: float | None = None
    guidance: float | Wrapper | list[Wrapper] | None = None
    source_guidance: float | Wrapper | list[Wrapper] | None = None
    model: Pipeline | None = None
    members: int = 1
    trajectory: Trajectory = "independent"
    nfe: int | None = None
    solver: str | Solver | None = None
    seed: int = 0
    batch_size: int = 256
    device: torch.device | str | None = None
    solving: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Editing:
        """From keywords; those that are no option here belong to the solver."""
        own = {each.name for each in fields(cls)} - {"solving"}
        rest = {name: value for name, value in options.items() if name not in own}
        return cls(**{name: value for name, value in options.items() if name in own}, solving=rest)


def edit(pipeline: Pipeline, objects: Sequence[Any], **options: Any) -> list[Any]:
    """Native ``objects`` as another condition (``to=``) or model (``model=``) would have them, member by member.

    Args:
        pipeline: the model.
        objects: of its domain.
        options: the fields of :class:`Editing`: ``given`` (what they are), ``method``, ``skip``, ``guidance``,
            ``members``, ``nfe``, ``solver``, ``seed``, ... and the solver's own.

    Raises:
        AnydiffError: there is nothing to edit, a condition the domain has not, or the method does not take this.
    """
    samples = edited(pipeline, objects, Editing.of(options))
    return pipeline.domain.decode(samples.states, samples.condition)


def invert(pipeline: Pipeline, objects: Sequence[Any], **options: Any) -> NoiseRecord:
    """The noises with which a stochastic plan gives native ``objects``.

    ``pipeline.sample(len(objects), noise=record, ...)`` with the same plan gives them back.

    Args:
        pipeline: the model.
        objects: of its domain.
        options: as for :func:`edit`, with ``trajectory``; without what only an edit has.

    Raises:
        AnydiffError: an option that only an edit has, or what cannot be inverted.
    """
    return inverted(pipeline, objects, Editing.of(options))


def edited(pipeline: Pipeline, objects: Sequence[Any], options: Editing) -> SampleSet:
    """The edits as states, member by member: row i is member i // n of object i % n.

    Raises:
        AnydiffError: there is nothing to edit, a condition the domain has not, or the method does not take this.
    """
    method = build_method(options)
    target = pipeline if options.model is None else options.model
    _require_same_states(pipeline, target)
    changes = getattr(method, "change", None) is not None
    if options.to is None and options.model is None and not changes:
        raise AnydiffError("to is missing, so the objects are to become nothing else; say which condition they get.")
    natural_number("members", options.members)
    states, given = encoded(pipeline, objects, options)
    drawn = _draws(pipeline, states, given, options, _or_none(options.source_guidance))
    towards = given if options.to is None else _told(target, states, options.to, "to", options.guidance)
    asked = _draws(target, states, towards, options, options.guidance)
    if target is pipeline and not changes:
        _require_difference(drawn, asked, options.guidance is not None)
    rows = torch.arange(drawn.rows) % len(states)
    found = method.edit(
        in_space(pipeline, states)[rows], drawn.spec, side_of(drawn), side_of(asked),
        travel=travel_of(target, method, options), samples=list(drawn.count),  # type: ignore[arg-type]
        seed=options.seed, batch_size=options.batch_size, callbacks=asked.callbacks,
    )  # fmt: skip
    return asked.finished(found.to(drawn.spec.dtype()))


def inverted(pipeline: Pipeline, objects: Sequence[Any], options: Editing) -> NoiseRecord:
    """The noises with which the pipeline's plan gives ``objects``, for ``pipeline.sample(noise=)`` under that plan.

    Raises:
        AnydiffError: an option that only an edit has, or what cannot be inverted.
    """
    for name in ("to", "model", "guidance"):
        if getattr(options, name) is not None:
            raise AnydiffError(f"{name} is of an edit, and an inversion has none; leave it out, or call pipeline.edit.")
    if options.members != 1:
        raise AnydiffError(f"members is {options.members}, but an object has one inversion per seed; change the seed.")
    method = build_method(options)
    states, given = encoded(pipeline, objects, options)
    drawn = _draws(pipeline, states, given, options, _or_none(options.source_guidance))
    side = side_of(drawn)
    edit = Edit(
        in_space(pipeline, states), drawn.spec, side, side, travel_of(pipeline, method, options), list(drawn.count),  # type: ignore[arg-type]
        options.seed, options.batch_size, drawn.callbacks,
    )  # fmt: skip
    plan = edit.travel.plan(drawn.denoiser.path, method.solver, options.skip or 0.0)
    return edit.inverted(plan, options.trajectory)


def encoded(pipeline: Pipeline, objects: Sequence[Any], options: Editing) -> tuple[Tensor, Conditioning]:
    """The states of ``objects`` and what they are given.

    Raises:
        AnydiffError: there are none, or the pipeline has a plan of its own alone.
    """
    require_free(pipeline, "an edit")
    require_whole(pipeline, "an edit")
    if not len(objects):
        raise AnydiffError("there are no objects to edit; give at least one.")
    told = pipeline.conditioning(options.given, len(objects)) if options.given else Conditioning()
    states = pipeline.domain.encode_asked(objects, told)
    return states, _told(pipeline, states, options.given, "given", options.source_guidance)


def in_space(pipeline: Pipeline, states: Tensor) -> Tensor:
    """``states`` as what is diffused: latents where the recipe has some."""
    return states if pipeline.latent is None else pipeline.latent.to_latent(states)


def build_method(options: Editing) -> EditMethod:
    """The method with its options, ``skip`` among them.

    Raises:
        AnydiffError: options beside a method that is made already, or what is registered is no method.
    """
    given = {**options.method_options, **({} if options.skip is None else {"skip": options.skip})}
    if not isinstance(options.method, str):
        if given:
            raise AnydiffError(
                f"{next(iter(given))} goes with a method given by name, but method is a "
                f"{type(options.method).__name__}; set it there."
            )
        return options.method
    made = registry().build("edits", options.method, **given)
    if not isinstance(made, EditMethod):
        raise AnydiffError(
            f"the method of editing {options.method!r} builds a {type(made).__name__}, which is no "
            "anydiff.editing.EditMethod; derive it from that class."
        )
    return made


def travel_of(pipeline: Pipeline, method: EditMethod, options: Editing) -> Travel:
    """By which plan: what is named, completed by the recipe's settings."""
    settings, solving = pipeline.recipe.sampling, dict(options.solving)
    if isinstance(options.solver, (Sampler, Plan)):
        raise AnydiffError(
            f"solver is a {type(options.solver).__name__}, but an edit compiles its own plan from a solver; give one "
            "by its name, or a Solver."
        )
    grid, end = solving.pop("grid", None), solving.pop("end", None)
    if solving and options.solver is None:
        name, value = next(iter(solving.items()))
        raise AnydiffError(f"{name} is {value!r}, but belongs to a solver; name the solver too.")
    # The recipe's grid was chosen for its own solver: another one that is made for a grid keeps that.
    if grid is None and preferred_grid(method.solver if options.solver is None else options.solver) is None:
        grid = settings.grid
    nfe = settings.nfe if options.nfe is None else natural_number("nfe", options.nfe)
    return Travel(options.solver, solving, nfe, grid, settings.end if end is None else end)


def side_of(drawn: Draws) -> Side:
    """What the denoiser is told, one row per sample."""
    request = drawn.request()
    condition = Conditioning.of(request.condition)
    rows = torch.arange(drawn.rows) % (drawn.rows if drawn.options.cases is None else drawn.options.cases)
    return Side(
        drawn.denoiser, condition.rows(rows), drawn.around(), facts_of(drawn.pipeline, drawn.told, drawn.layers)
    )


def _or_none(guidance: float | Wrapper | list[Wrapper] | None) -> float | Wrapper | list[Wrapper]:
    return [] if guidance is None else guidance


def _told(pipeline: Pipeline, states: Tensor, asked: Asked | None, name: str, guidance: Any) -> Conditioning:
    """What is asked for, with the nodes that the objects have.

    Raises:
        AnydiffError: other nodes are asked for than the objects have.
    """
    spec = pipeline.domain.spec
    names = [each for layer in build_guidance(guidance) for each in layer.reads]
    told = pipeline.conditioning(asked, len(states), names)
    if not spec.masked:
        return told
    own = spec.mask_of(states)
    if told.mask is not None and not torch.equal(told.mask.bool().cpu(), own.cpu()):
        raise AnydiffError(
            f"{name} asks for other nodes than the objects have; an edit keeps their nodes (atoms): leave the mask out."
        )
    return replace(told, mask=own)


def _draws(
    pipeline: Pipeline, states: Tensor, condition: Conditioning, options: Editing, guidance: Any
) -> Draws:  # fmt: skip
    asked = SampleOptions(
        condition=condition, guidance=guidance, seed=options.seed, batch_size=options.batch_size,
        device=options.device, cases=len(states),
    )  # fmt: skip
    return Draws.of(pipeline, member_rows(options.members, len(states)), asked)


def _require_same_states(pipeline: Pipeline, target: Pipeline) -> None:
    require_free(target, "an edit")
    require_whole(target, "an edit")
    if target.domain.spec != pipeline.domain.spec or target.domain.name != pipeline.domain.name:
        raise AnydiffError(
            f"model is {target.recipe.name!r} of domain {target.domain.name!r}, but the objects are of "
            f"{pipeline.domain.name!r} for {pipeline.recipe.name!r}; an edit needs two models of the same states."
        )
    if (target.latent is None) != (pipeline.latent is None):
        raise AnydiffError(
            f"one of {pipeline.recipe.name!r} and {target.recipe.name!r} diffuses latents and the other data; an edit "
            "needs two models of the same states."
        )


def _require_difference(source: Draws, target: Draws, chosen: bool) -> None:
    """Refuse an edit to what the objects are said to be, unless another guidance was chosen for the target."""
    before, after = (facts_of(each.pipeline, each.told, each.layers) for each in (source, target))
    if before["condition"] == after["condition"] and not (chosen and before["guidance"] != after["guidance"]):
        raise AnydiffError(
            "given and to say the same, so there is nothing to edit; change to, or call pipeline.invert for the noises."
        )
