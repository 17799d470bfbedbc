"""Training a recipe into a run folder, with the hook events on the way and a card at the end."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anydiff.data.dataset import Dataset
from anydiff.data.reading import Place, parse_json
from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.networks.latent_density import LatentDensity
from anydiff.pipeline.companions import companions_of, recorded_text
from anydiff.pipeline.latent import Latent, LatentDataset, warn_of_scale, with_unit_scale
from anydiff.pipeline.pipeline import Pipeline, load
from anydiff.pipeline.start import (
    check_companion,
    check_plan,
    check_rows,
    freeze,
    named_model,
    recorded,
    start_words,
    starting,
    take_weights,
    training_command,
    training_companions,
)
from anydiff.plugins import hooks
from anydiff.plugins.source import transforming_code
from anydiff.recipes import Model, Part, Recipe, Start, load_recipe
from anydiff.recipes.build import build_training_method
from anydiff.recipes.statistics import fit_to_data
from anydiff.registry import registry
from anydiff.representation import RefinedDataset
from anydiff.training import Hardware, RunFolder, TrainingEvents, fit
from anydiff.training.events import Batch
from anydiff.training.run import process_rank
from anydiff.training.weights import BEFORE, load_metadata, save_weights

CODES = 20_000
"""Examples to whose codes a density is fitted, at most."""
FIRST_EXAMPLES = 512
"""What a network that begins with data is shown before its first step."""

TRANSFORMS = "transforms"
"""The metadata field of weights that were trained under ``transform_batch``: distribution -> sha256 of its code."""


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    start: str | Path | Start | None = None,
    resume: bool = False,
    devices: int | str = 1,
    console: Any = None,
    command: str = "",
    listeners: Sequence[TrainingEvents] = (),
) -> Pipeline:
    """Train ``recipe`` into the run folder ``folder`` and return the trained pipeline (averaged weights).

    Options of the domain that are statistics of the training data are taken from these (see
    :func:`~anydiff.recipes.statistics.fit_to_data`); the run's recipe holds them.

    Args:
        recipe: the complete experiment.
        folder: a new or empty folder, or with ``resume`` one that holds an unfinished run of the same recipe.
        start: the model whose weights the training begins with, in place of the recipe's own ``start``: a recipe with
            bundled weights, a run folder, a weights file, or a :class:`~anydiff.recipes.Start` that also says what is
            frozen and whether some tensors may differ. The run's recipe holds its hashes.
        resume: continue at the last checkpoint; from the run's own base where there is none yet.
        devices: number of devices, or "auto"; the model that results is the same for any.
        console: a rich console for progress; None for no output.
        command: the command line that trains this, for the card; by default the registered recipe of this name with
            its changes and its base, or the run's own ``config.yaml`` where no recipe is registered.
        listeners: told of the training beside the plugins, see :mod:`anydiff.pipeline.trackers`.

    Raises:
        AnydiffError: the folder holds files, the recipe or the base differs from the run's, or the base does not fit.
        NonFiniteError: loss or gradient became NaN or infinite; names the first bad tensor.
        KeyboardInterrupt: after a checkpoint was saved.
    """
    before = _resumed(Path(folder)) if resume else None
    asked, recipe = recipe, starting(recipe, start, resume, before)
    if not command:
        command = training_command(recipe, _registered(recipe.name))
    elif before is not None and asked.start is None:
        command = shlex.join([*shlex.split(command), *start_words(recipe.start)])
    recipe, dataset = fit_to_data(recipe)
    recipe, base = _with_base(recipe, before, Path(folder))
    recipe, companions = training_companions(recipe, load)
    recipe = with_unit_scale(recipe, dataset, load)
    if before is not None:
        _check_same_experiment(recipe, before, Path(folder))
    transforms = transforming_code("transform_batch")
    pipeline = _begun(recipe, Path(folder), transforms, resume)
    _begin_weights(pipeline, base, dataset)
    if pipeline.refinement is not None:
        dataset = RefinedDataset(dataset, pipeline.refinement)
    if pipeline.latent is not None:
        dataset = seen = LatentDataset(dataset, pipeline.latent)
        warn_of_scale(seen, recipe.sigma_data)
    asked_of = {name: each.denoiser for name, each in companions.items()}
    method = build_training_method(recipe, pipeline.denoiser, asked_of)  # refused before anything is written
    for name, each in companions.items():
        check_companion(pipeline, each, name, method.objective)
    check_plan(pipeline, method.objective)
    check_rows(method.objective, recipe.training.batch_size, dataset.name, len(dataset))
    metadata = {
        "recipe": recipe.canonical(),
        "recipe_hash": recipe.hash,
        "data_hash": dataset.hash,
        "anydiff_version": version("anydiff"),
        "command": command,
        **recorded_text(pipeline.companions, Path(folder)),
        **({TRANSFORMS: json.dumps(transforms, sort_keys=True)} if transforms else {}),
    }
    notes = [f"trained under transform_batch of {name}, sha256 {found}" for name, found in transforms.items()]
    run = RunFolder.create(folder, recipe.model_dump(mode="json"), metadata, resume=resume, notes=notes)
    hooked = (_HookEvents(recipe), *listeners)
    hardware = Hardware(devices)
    fit(method, dataset, recipe.training, run, hardware=hardware, resume=resume, callbacks=hooked, console=console)
    if process_rank() == 0:
        _fit_density(run, dataset)
    pipeline = load(run.path)
    if process_rank() == 0:
        run.write_card(card(pipeline, dataset))
    return pipeline


def _resumed(folder: Path) -> Recipe | None:
    """The recipe of the run in ``folder``; None where nothing was begun, or there is no run: RunFolder.create tells."""
    if not (folder / "config.yaml").is_file():
        return None
    return Recipe.parse(RunFolder.open(folder).config, f"the configuration of the run {str(folder)!r}")


def _registered(name: str) -> Recipe | None:
    return load_recipe(name) if name in registry().names("recipes") else None


def _with_base(recipe: Recipe, before: Recipe | None, folder: Path) -> tuple[Recipe, Pipeline | None]:
    """The recipe with the hashes of its base, and the base; None where the recipe names none, or a state goes on."""
    asked = recipe.start
    if asked is None:
        return recipe, None
    goes_on = before is not None and (folder / "state.pt").exists()
    if goes_on and before is not None and asked == before.start:
        return recipe, None
    base = named_model(asked, "start", load)
    return recipe.model_copy(update={"start": recorded(asked, base)}), None if goes_on else base


def _begin_weights(pipeline: Pipeline, base: Pipeline | None, dataset: Dataset) -> None:
    """Give the untrained pipeline the weights of ``base``, where there is one, and freeze what its recipe says.

    A network that begins with data (a codebook) is shown the first examples, unless the base gives all its weights.
    """
    start, taken = pipeline.recipe.start, None
    if start is not None and base is not None:
        taken = take_weights(pipeline, base, start)
        if not taken.whole:
            warnings.warn(f"started from {start.source!r} in part: {taken}.", stacklevel=3)
    if isinstance(pipeline.denoiser.network, Autoencoder) and pipeline.denoiser.network.density is not None:
        LatentDensity.ready()
    begin = getattr(pipeline.denoiser.network, "begin", None)
    if begin is not None and (taken is None or taken.random):
        states, _ = dataset.batch(range(min(FIRST_EXAMPLES, len(dataset))))
        begin(states, pipeline.recipe.training.seed)
    if start is not None:
        freeze(pipeline.denoiser.network, start.freeze)


def _fit_density(run: RunFolder, dataset: Dataset) -> None:
    """Where the network has a density of its codes, fit it to those of the data and store it with the weights."""
    pipeline = load(run.path)
    network = pipeline.denoiser.network
    if not isinstance(network, Autoencoder) or network.density is None:
        return
    states, _ = dataset.batch(range(min(len(dataset), CODES)))
    network.density.fit(Latent(pipeline.domain, network).to_latent(states), pipeline.recipe.training.seed)
    _, metadata = run.load_weights()
    save_weights(run.weights_path, network.state_dict(), metadata, overwrite=True)


def _check_same_experiment(recipe: Recipe, before: Recipe, folder: Path) -> None:
    """Refuse to resume a run under a recipe that makes another model, before anything of the run is replaced."""
    for part in (
        "domain",
        "latent",
        "refines",
        "dataset",
        "network",
        "path",
        "parametrization",
        "sigma_data",
        "objective",
        "method",
        "companions",
        "start",
    ):
        old, new = getattr(before, part), getattr(recipe, part)
        if old != new:
            raise AnydiffError(
                f"{part} is {_plain(new)}, but the run in {str(folder)!r} was begun with {_plain(old)}; set it back to "
                "resume, or train into a new folder."
            )
    uses_progress = getattr(registry().load("training_methods", recipe.method.name), "uses_progress", True)
    recipe.training.check_resume(before.training.model_dump(mode="json"), uses_progress)


def _begun(recipe: Recipe, folder: Path, transforms: Mapping[str, str], resume: bool) -> Pipeline:
    """The untrained pipeline, with the models that its recipe needs; on resumption those that the run was begun with.

    Raises:
        AnydiffError: a model that is needed is missing or another one, or batches were transformed by other code.
    """
    path = folder / "model.safetensors"
    stored = load_metadata(path) if resume and path.is_file() else None
    if stored is not None and (stored["format"] != BEFORE or TRANSFORMS in stored):
        advice = "the file is damaged: train into a new folder"
        before = parse_json(stored.get(TRANSFORMS, "{}"), Place(f"{TRANSFORMS!r} of {str(path)!r}"), advice=advice)
        if before != dict(transforms):
            raise AnydiffError(
                f"transform_batch is implemented by {_named(transforms)}, but the run in {str(folder)!r} was begun "
                f"with {_named(before)}; restore these plugins to resume, or train into a new folder."
            )
    return Pipeline.untrained(recipe, companions_of(recipe, load, stored, path if stored is not None else None))


def _named(transforms: Any) -> str:
    found = dict(transforms) if isinstance(transforms, Mapping) else {}
    return ", ".join(f"{name} ({str(digest)[:8]})" for name, digest in sorted(found.items())) or "no plugin"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return repr({name: each.model_dump(mode="json") for name, each in value.items()})
    return repr(value.model_dump(mode="json") if isinstance(value, (Part, Model)) else value)


class _HookEvents(TrainingEvents):
    """Hands a training's events to the plugins."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.hooks = hooks()

    def training_started(self, folder: Path, denoiser: Any, step: int) -> None:
        self.hooks.notify("training_started", recipe=self.recipe, folder=folder, denoiser=denoiser, step=step)

    def transform_batch(self, batch: Batch, step: int, positions: Sequence[int]) -> Batch | None:
        if not self.hooks.has("transform_batch"):
            return None
        changed: Batch = self.hooks.transform(
            "transform_batch", batch=batch, recipe=self.recipe, step=step, positions=positions
        )
        return changed

    def training_step(self, folder: Path, step: int, values: Mapping[str, float]) -> None:
        self.hooks.notify("training_step", recipe=self.recipe, folder=folder, step=step, values=values)

    def checkpoint_saved(self, folder: Path, step: int) -> None:
        self.hooks.notify("checkpoint_saved", recipe=self.recipe, folder=folder, step=step)


def _further(pipeline: Pipeline) -> str:
    """Lines of the card's table for what not every model has: other models it needs, batches that plugins changed."""
    rows = [
        f"| {role} | {each.recipe.name}, sha256 `{each.weights_hash}` |\n" for role, each in pipeline.companions.items()
    ]
    transforms = json.loads(pipeline.metadata.get(TRANSFORMS, "{}"))
    for name, model in pipeline.recipe.companions.items():
        rows.append(f"| companion {name} | {model.source}, sha256 `{model.weights_hash}` |\n")
    start = pipeline.recipe.start
    if start is not None:
        how = ", what matched of it" * start.partial + (
            f", frozen: `{'`, `'.join(start.freeze)}`" if start.freeze else ""
        )
        rows.append(f"| base | {start.source}, sha256 `{start.weights_hash}`{how} |\n")
    rows += [f"| batches | changed by {name}, sha256 `{found}` |\n" for name, found in transforms.items()]
    return "".join(rows)


def card(pipeline: Pipeline, dataset: Dataset) -> str:
    """The model card of a run, Markdown: what it is, from which data, and how to use it."""
    recipe = pipeline.recipe
    training = recipe.training
    return f"""# {recipe.name}

{recipe.help or "No description."}

| | |
|---|---|
| data | {dataset.name}, {len(dataset)} examples, sha256 `{dataset.hash}` |
| network | {recipe.network.name}, {pipeline.parameters:,} parameters, predicts {recipe.parametrization} |
| path | `{pipeline.denoiser.path!r}` |
| training | {training.steps:,} steps of {training.batch_size} examples, seed {training.seed}, {training.precision} |
| weights | averaged (decay {training.ema_decay}), sha256 `{pipeline.weights_hash}` |
| recipe | sha256 `{recipe.hash}` |
{_further(pipeline)}
Made with anydiff {pipeline.metadata.get("anydiff_version", "")} by `{pipeline.metadata.get("command", "")}`.

```python
import anydiff

pipeline = anydiff.load("path/to/this/folder")
samples = pipeline.sample(16, nfe={recipe.sampling.nfe}, seed=0)
```
"""
