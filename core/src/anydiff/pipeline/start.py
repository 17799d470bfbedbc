"""Training from a model that is trained already: which one, whether it fits, and which of its tensors are taken.

The base is a recipe with bundled weights, a run folder or a weights file. Its tensors match those of the new network
by name and shape; anything else is listed, and refused unless the recipe says ``start.partial``. The averaged weights
begin as copies of the network's, so before the first step they are the base's, bit for bit.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anydiff.compression.floats import require_floats
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.networks import Autoencoder
from anydiff.objectives import Objective, Sum
from anydiff.pipeline.companions import hidden_recipe, require_same_classes
from anydiff.pipeline.fixed import own_plan, require_whole
from anydiff.recipes import Model, Recipe, Start
from anydiff.solvers import Plan

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

MOST_NAMES = 6
"""Tensors that a sentence names; of the others it says how many there are."""


def starting(recipe: Recipe, start: str | Path | Start | None, resume: bool, before: Recipe | None) -> Recipe:
    """``recipe`` with its base: ``start`` if it is given, or else its own, or else that of the run it resumes.

    Args:
        recipe: names a base or none.
        start: given by the caller, in place of the recipe's own.
        resume: whether a run is resumed.
        before: the recipe of that run; None where it has not begun.

    Raises:
        AnydiffError: ``start`` is given and a run is resumed, whose base is known already.
    """
    if start is not None and resume:
        raise AnydiffError(
            f"start is {_source(start)!r}, but a run is resumed, which goes on from its own checkpoint and knows its "
            "base; leave start (--from, --partial, --freeze) out, or train into a new folder."
        )
    if start is not None:
        found = start if isinstance(start, Start) else Start(source=str(start))
        return recipe.model_copy(update={"start": found})
    if before is not None and recipe.start is None:
        return recipe.model_copy(update={"start": before.start})
    return recipe


def _source(start: str | Path | Start) -> str:
    return start.source if isinstance(start, Start) else str(start)


def named_model(model: Model, role: str, load: Callable[[str], Pipeline]) -> Pipeline:
    """The model that a recipe names as ``role``.

    Raises:
        AnydiffError: it cannot be loaded (a FileFormatError where its file is damaged), or is not the one whose hashes
            the recipe holds.
    """
    try:
        found = load(model.source)
    except AnydiffError as error:
        kind = FileFormatError if isinstance(error, FileFormatError) else AnydiffError
        raise kind(f"{role} is {model.source!r}, which cannot be loaded: {error}") from error
    for what, wanted, own in (
        ("weights", model.weights_hash, found.weights_hash),
        ("recipe", model.recipe_hash, found.recipe.hash),
    ):
        if wanted and wanted != own:
            raise AnydiffError(
                f"{role} is {model.source!r}, which now has the {what} {own[:12]}, but the recipe was written for the "
                f"{what} {wanted[:12]}; put these back, or remove {role}.{what}_hash to take the model as it is"
                f"{hidden_recipe(model.source)}."
            )
    return found


def recorded(model: Model, pipeline: Pipeline) -> Model:
    """``model`` with the hashes of what was loaded for it."""
    return model.model_copy(update={"recipe_hash": pipeline.recipe.hash, "weights_hash": pipeline.weights_hash})


def training_companions(recipe: Recipe, load: Callable[[str], Pipeline]) -> tuple[Recipe, dict[str, Pipeline]]:
    """The recipe with the hashes of the frozen models that its loss asks, and these models by name.

    Raises:
        AnydiffError: one cannot be loaded, or is another than the recipe was written for.
    """
    found = {name: named_model(model, f"companions.{name}", load) for name, model in recipe.companions.items()}
    models = {name: recorded(model, found[name]) for name, model in recipe.companions.items()}
    return (recipe.model_copy(update={"companions": models}) if models else recipe), found


def check_companion(pipeline: Pipeline, companion: Pipeline, name: str, objective: Objective) -> None:
    """Refuse a companion that cannot answer what the objective asks of it.

    Raises:
        AnydiffError: it diffuses in another latent space than ``pipeline``, or its classes are others, so that its
            states mean something else; or it is a denoiser on its own plan alone and is asked at other times.
    """
    settings, asked = companion.recipe.sampling, objective.asked_times(name)
    if settings.fixed:
        require_whole(companion, f"companions.{name}")
        plan = companion.plan()
        assert isinstance(plan, Plan)
        own_times = plan.nodes[:-1]
        strange = None if asked is None else [t for t in asked if all(abs(t - each) > 1e-9 for each in own_times)]
        if asked is None or strange:
            at = "at any time" if not strange else f"at {strange[0]:g}"
            raise AnydiffError(
                f"companions.{name} is {companion.recipe.name!r}, a denoiser on its own plan alone "
                f"({own_plan(settings)}), but it is asked {at}; name the model that it was made of, or a grid of its "
                "times."
            )
    require_same_classes(pipeline, companion, f"companions.{name}")
    own, other = latent_hash(pipeline), latent_hash(companion)
    if own != other and not isinstance(companion.denoiser.network, Autoencoder):
        raise AnydiffError(
            f"companions.{name} diffuses in the latent space of {companion.recipe.latent!r}, but the recipe in that of "
            f"{pipeline.recipe.latent!r}; name a companion of the same latent."
        )


def check_plan(pipeline: Pipeline, objective: Objective) -> None:
    """Refuse a recipe whose loss tunes a sampler as a whole, where samples would be drawn by another plan.

    Raises:
        AnydiffError: the recipe's plan is not fixed, or is another one than the objective's.
    """
    parts = [part.objective for part in objective.parts.values()] if isinstance(objective, Sum) else [objective]
    for plan in [part.plan for part in parts if part.plan is not None]:
        if not pipeline.recipe.sampling.fixed or pipeline.plan().to_json() != plan.to_json():
            free = "" if pipeline.recipe.sampling.fixed else ", which is not fixed"
            raise AnydiffError(
                f"the objective tunes the plan of {plan.solver} with {plan.nfe} calls at "
                f"{[round(t, 6) for t in plan.nodes]}, but the recipe samples by "
                f"{own_plan(pipeline.recipe.sampling)}{free}; "
                "set sampling to the same solver, nfe, grid and end, with sampling.fixed=true."
            )


def check_rows(objective: Objective, batch_size: int, data: str, examples: int) -> None:
    """Refuse fewer examples than a loss of several together is defined for.

    Raises:
        AnydiffError: the batch is too small, or the data set (called ``data``, of so many ``examples``) is.
    """
    fewest = objective.fewest_rows
    if batch_size < fewest:
        raise AnydiffError(
            f"training.batch_size is {batch_size}, but the loss is one of at least {fewest} examples together; raise "
            f"training.batch_size to {fewest} or more."
        )
    if examples < fewest:
        raise AnydiffError(
            f"the data set {data!r} has {examples} examples, but the loss is one of at least {fewest} different ones "
            "together; add examples, or leave the loss out."
        )


def latent_hash(pipeline: Pipeline) -> str:
    """What says in which space a model diffuses: an autoencoder's weights, the parts of an aggregate; else nothing."""
    return "" if pipeline.latent is None else pipeline.latent.identity


@dataclass(frozen=True)
class Taken:
    """How the tensors of a base met those of a network.

    Attributes:
        matched: names that both have, with one shape.
        random: names of the network that begin at random, each with the reason.
        left: names of the base that the network has no use for.
    """

    matched: Sequence[str]
    random: Mapping[str, str]
    left: Sequence[str]

    @property
    def whole(self) -> bool:
        """Whether everything matched."""
        return not self.random and not self.left

    def __str__(self) -> str:
        parts = []
        if self.random:
            told = [f"{name} ({why})" for name, why in self.random.items()]
            parts.append(f"{len(told)} of the network are not in it: {_some(told)}")
        if self.left:
            parts.append(f"{len(self.left)} of it are not in the network: {_some(self.left)}")
        return "; ".join([f"{len(self.matched)} tensors match", *parts])


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def take_weights(pipeline: Pipeline, base: Pipeline, start: Start) -> Taken:
    """Copy the weights of ``base`` into the network of the untrained ``pipeline``.

    Raises:
        AnydiffError: the base is of another domain, path or parametrisation, or an autoencoder where none is trained;
            a tensor does not match and ``start.partial`` is false; or none matches.
    """
    _check_fit(pipeline, base, start.source)
    network = pipeline.denoiser.network
    own, given = network.state_dict(), base.denoiser.network.state_dict()
    matched, random = [], {}
    for name, tensor in own.items():
        why = _mismatch(tensor, given.get(name))
        if why:
            random[name] = why
        else:
            matched.append(name)
    taken = Taken(matched, random, [name for name in given if name not in own])
    if not matched:
        raise AnydiffError(
            f"start is {start.source!r}, but none of its {len(given)} tensors matches one of the network "
            f"{pipeline.recipe.network.name!r} by name and shape ({taken}); start from a model of this network."
        )
    if not taken.whole and not start.partial:
        raise AnydiffError(
            f"start is {start.source!r}, whose tensors are not those of the network: {taken}; set start.partial=true "
            "(--partial) to take what matches and begin the rest at random, or give the network the base's options."
        )
    network.load_state_dict({**own, **{name: given[name] for name in matched}})
    return taken


def _mismatch(own: Tensor, given: Tensor | None) -> str:
    """Why a tensor of the base is not taken; empty where it is."""
    if given is None:
        return "missing"
    if own.shape != given.shape:
        return f"{tuple(given.shape)} for {tuple(own.shape)}"
    return "" if torch.can_cast(given.dtype, own.dtype) else f"{given.dtype} for {own.dtype}"


def _check_fit(pipeline: Pipeline, base: Pipeline, source: str) -> None:
    """The base's states and predictions mean what those of the recipe do."""
    recipe, other = pipeline.recipe, base.recipe
    require_floats(base.denoiser.network, f"start is {source!r}, and a training", other.name)
    if isinstance(base.denoiser.network, Autoencoder) != isinstance(pipeline.denoiser.network, Autoencoder):
        one, two = (base, pipeline) if isinstance(base.denoiser.network, Autoencoder) else (pipeline, base)
        raise AnydiffError(
            f"start is {source!r}, but one of the two is an autoencoder ({one.recipe.name!r}) and the other a denoiser "
            f"({two.recipe.name!r}); name an autoencoder as latent, and start from a model of the same kind."
        )
    same_path = recipe.path == other.path or pipeline.denoiser.path == base.denoiser.path
    for what, same, mine, theirs in (
        ("domain", recipe.domain.name == other.domain.name, recipe.domain.name, other.domain.name),
        ("path", same_path, pipeline.denoiser.path, base.denoiser.path),
        ("parametrization", recipe.parametrization == other.parametrization, recipe.parametrization,
         other.parametrization),
        ("sigma_data", recipe.sigma_data == other.sigma_data, recipe.sigma_data, other.sigma_data),
        ("latent", latent_hash(pipeline) == latent_hash(base), recipe.latent, other.latent),
    ):  # fmt: skip
        if not same:
            raise AnydiffError(
                f"start is {source!r}, whose {what} is {theirs!r}, but the recipe says {mine!r}, so its weights mean "
                f"something else; start from a model of the same {what}, or set {what} as the base has it."
            )


def freeze(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exempt the parameters whose names match one of ``patterns`` from training, and return their names.

    Raises:
        AnydiffError: a pattern that matches nothing, or nothing is left to train.
    """
    named = dict(network.named_parameters())
    frozen: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(named, pattern)
        if not found:
            raise AnydiffError(
                f"start.freeze (--freeze) names {pattern!r}, which matches none of the network's {len(named)} "
                f"parameters ({_some(list(named))}); correct the pattern, in which * stands for anything."
            )
        frozen.update(dict.fromkeys(found))
    if patterns and all(name in frozen for name, each in named.items() if each.requires_grad):
        raise AnydiffError(
            f"start.freeze (--freeze) is {', '.join(patterns)}, which leaves nothing to train; freeze fewer parameters."
        )
    for name in frozen:
        named[name].requires_grad_(False)
    return list(frozen)


def start_words(start: Start | None) -> list[str]:
    """The words of a command line that say ``start``."""
    if start is None:
        return []
    frozen = [word for pattern in start.freeze for word in ("--freeze", pattern)]
    return ["--from", start.source, *(["--partial"] if start.partial else []), *frozen]


def training_command(recipe: Recipe, registered: Recipe | None) -> str:
    """The command line that trains ``recipe``: the registered one of its name with changes, or the run's own file."""
    changes = None if registered is None else recipe.changes_from(registered.model_copy(update={"start": recipe.start}))
    if registered is None or changes is None:
        return "anydiff train config.yaml"
    words = [word for change in changes for word in ("--set", change)]
    if registered.start != recipe.start:
        words += ["--set", "start=null"] if recipe.start is None else start_words(recipe.start)
    return shlex.join(["anydiff", "train", recipe.name, *words])
