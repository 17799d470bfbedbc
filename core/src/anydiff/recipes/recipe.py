"""Recipes: named, complete experiments as data: data set, network, path, objective, budget, sampling, metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from anydiff.data.reading import parse_yaml, read_yaml
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError
from anydiff.recipes.models import Model, Start
from anydiff.registry import registry
from anydiff.samplers import DEFAULT_NFE, DEFAULT_SOLVER
from anydiff.settings import Settings
from anydiff.training import TrainingSettings


class Part(Settings):
    """A registered thing and its options. In a file ``path: edm`` is short for ``path: {name: edm}``."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class PartSettings(Settings):
    """How one part of a sample enters an aggregate.

    Attributes:
        encoder: ``identity``: as it is; ``codes``: each class is a pattern, of ``shape``.
        weight: factor on what is encoded.
        shape: of the patterns, ``[1, 28, 28]`` say; the part's own where it is encoded as it is.
        tile: patterns of this shape are repeated to fill ``shape``, so that each place of it tells the class and a
            convolution reads it; None for patterns of all of it.
    """

    encoder: Literal["identity", "codes"] = "identity"
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    shape: tuple[int, ...] | None = None
    tile: tuple[int, ...] | None = None


class Aggregation(Settings):
    """Several parts of a sample (the leaves of its state) in one space; see :mod:`anydiff.pipeline.aggregate`.

    Attributes:
        parts: name of a leaf -> how it enters; blocks are stacked along the first axis in this order.
    """

    parts: dict[str, PartSettings] = Field(min_length=1)


class SamplingSettings(Settings):
    """How the recipe's model is sampled unless the caller says otherwise.

    Attributes:
        solver: a solver and its options.
        nfe: budget of network calls per sample.
        grid: time grid: a name, or a list of decreasing times, one more than the steps; None for the path's default.
        end: how the plan ends (see :func:`anydiff.solvers.compile_plan`).
        guidance: guidances, the first innermost.
        temperature: factor on every noise draw, the prior's included, where each case is sampled once (0: one best
            estimate, the path of the prior's mean). Several samples of a case are an ensemble of the model's own law
            and keep 1.
        fixed: the weights are a denoiser on this plan alone: another solver, budget, grid, likelihood or guidance is
            refused.
        read_out: of a recipe with parts: whether samples follow the network's own prediction (``noise``, the default)
            or what its heads read (``heads``).
    """

    solver: Part = Part(name=DEFAULT_SOLVER)
    nfe: int = Field(default=DEFAULT_NFE, ge=1)
    grid: str | tuple[float, ...] | None = None
    end: str = "clean"
    guidance: tuple[Part, ...] = ()
    fixed: bool = False
    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    read_out: Literal["noise", "heads"] | None = None

    def temperature_of(self, given: float | None, samples: int, cases: int) -> float:
        """The factor on noise of ``samples`` samples of ``cases`` cases: what is given, else this recipe's."""
        if given is not None:
            return given
        return self.temperature if samples <= cases else 1.0


Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["unit"]


class Recipe(Settings):
    """A complete experiment. Everything that can change the result stands here, so its hash names the experiment.

    Attributes:
        name: namespaced name, ``images/fashion``.
        help: one line for lists.
        domain: the codec.
        latent: where to diffuse instead of on the data: a recipe with bundled weights, a run folder or a weights file
            of the network ``autoencoder`` (see :mod:`anydiff.pipeline.latent`); or a table with ``parts``, which are
            aggregated into one space (see :mod:`anydiff.pipeline.aggregate`).
        latent_scale: the number that the autoencoder's latents are multiplied by; ``unit``: one over their deviation in
            the training data, which training puts in its place.
        refines: the autoencoder (as for ``latent``) whose reconstruction is the condition ``input``: in training that
            of a code drawn about the example's own, in sampling that of a code drawn from the density of codes (see
            :mod:`anydiff.representation.diffusevae`).
        dataset: training data; ``split`` is filled in (``train``, or ``test`` for the reference).
        network: the network.
        path: how data becomes noise.
        parametrization: what the network predicts: a kind of prediction, or a list of kinds (of a network with heads).
        sigma_data: standard deviation of the data, for input scaling and EDM's preconditioning.
        objective: what is minimised.
        method: which modules are trained, by which losses; by default the network, by the objective.
        companions: frozen models that the loss asks, by name: ``{teacher: images/fashion}``.
        start: the model whose weights the training begins with; None for weights at random.
        training: budget and optimiser.
        sampling: defaults for sampling.
        metrics: what ``evaluate`` reports.
    """

    name: str
    help: str = ""
    domain: Part
    latent: str | Aggregation | None = None
    latent_scale: Scale | None = None
    refines: str | None = None
    dataset: Part
    network: Part
    path: Part = Part(name="vp-linear")
    parametrization: PredictionKind | tuple[PredictionKind, ...] = "noise"
    sigma_data: float = Field(default=1.0, gt=0)
    objective: Part = Part(name="denoising")
    method: Part = Part(name="objective")
    companions: dict[str, Model] = Field(default_factory=dict)
    start: Start | None = None
    training: TrainingSettings
    sampling: SamplingSettings = SamplingSettings()
    metrics: tuple[Part, ...] = ()

    @field_validator("name")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a recipe needs a name")
        return value

    @model_validator(mode="after")
    def _scale_of_a_latent(self) -> Recipe:
        if self.latent_scale is not None and not isinstance(self.latent, str):
            raise ValueError(f"latent_scale is {self.latent_scale!r}, but latent names no autoencoder; leave it out")
        return self

    @property
    def hash(self) -> str:
        """sha256 (hex) of the resolved configuration in canonical form."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """The resolved configuration as JSON with sorted keys."""
        data = self.model_dump(mode="json")
        # What came later is left out where it is not used, so that a recipe keeps the name it had before.
        for name in ("latent", "latent_scale", "refines", "start", "companions"):
            if not getattr(self, name):
                del data[name]
        if self.method == Part(name="objective"):
            del data["method"]
        if self.sampling.temperature == 1.0:
            del data["sampling"]["temperature"]
        for name in ("fixed", "read_out"):
            if not getattr(self.sampling, name):
                del data["sampling"][name]
        for name in ("noise_levels", "optimiser", "prefetch"):
            if getattr(self.training, name) == TrainingSettings.model_fields[name].default:
                del data["training"][name]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    def to_yaml(self) -> str:
        """The resolved configuration as YAML; :func:`load_recipe` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def with_changes(self, changes: Sequence[str]) -> Recipe:
        """This recipe with ``key.sub=value`` changes applied (values are read as YAML).

        Raises:
            AnydiffError: a change without ``=``, an unknown key, or a value of the wrong type.
        """
        data = self.model_dump(mode="json")
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals or not key:
                raise AnydiffError(f"the change {change!r} has no '='; write it as training.steps=1000.")
            _assign(data, key.split("."), parse_yaml(text, f"the change {change!r}"))
        return Recipe.parse(data, f"recipe {self.name!r}")

    def changes_from(self, other: Recipe) -> list[str] | None:
        """The changes that make this recipe of ``other``, as :meth:`with_changes` takes them; None where none do."""
        found: list[str] = []
        same = _collect(other.model_dump(mode="json"), self.model_dump(mode="json"), (), found)
        return found if same else None


def _collect(before: Any, after: Any, keys: tuple[str, ...], found: list[str]) -> bool:
    """Add to ``found`` what makes ``after`` of ``before``; False where no change can: one takes no key away."""
    if before == after:
        return True
    if not (isinstance(before, dict) and isinstance(after, dict) and before.keys() <= after.keys()):
        text = yaml.safe_dump(after, default_flow_style=True, width=1 << 20, allow_unicode=True, sort_keys=False)
        found.append(f"{'.'.join(keys)}={text.removesuffix('...' + chr(10)).strip()}")
        return bool(keys) and all(key and "." not in key and "=" not in key for key in keys)
    return all(_collect(before.get(key), value, (*keys, key), found) for key, value in after.items())


def _assign(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise AnydiffError(f"{'.'.join(keys)!r} reaches into {key!r}, which is {inner!r}; name an existing key.")
        data = inner
    data[keys[-1]] = value


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """The registered recipe called ``name``, or the one in a YAML file.

    Raises:
        UnknownNameError: no such recipe; suggests the nearest.
        FileFormatError: the file is not YAML.
        AnydiffError: a key or value is wrong.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")) or Path(text).is_file():
        data = read_yaml(text, "a YAML file of a recipe", "see `anydiff recipes show`")
        recipe = Recipe.parse(data, f"recipe file {text!r}")
    else:
        made = registry().load("recipes", text)
        made = made() if callable(made) else made
        recipe = made if isinstance(made, Recipe) else Recipe.parse(made, f"recipe {text!r}")
    return recipe.with_changes(changes) if changes else recipe
