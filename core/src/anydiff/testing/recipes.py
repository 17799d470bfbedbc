"""Recipes: complete as written, and able to train, sample, save and load."""

from __future__ import annotations

import shutil

import torch
from torch import Tensor

from anydiff.autoregressive import BlockPlan
from anydiff.metrics import SampleSet
from anydiff.networks import Autoencoder
from anydiff.pipeline import Pipeline, load, train
from anydiff.recipes import Recipe, load_recipe
from anydiff.recipes.build import build_dataset, build_denoiser, build_domain, build_objective, sample_set
from anydiff.recipes.statistics import agree, fit_to_data, plain
from anydiff.registry import Entry
from anydiff.states import NoiseSource, uniform
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

SHORT = ("training.steps=2", "training.batch_size=4", "training.warmup_steps=0", "training.precision=32-true")
"""Two steps say whether a recipe works, not whether it is good."""


@check("recipe.parses", "recipes", reads_data=False)
def parses(plugin: Subject, entry: Entry) -> None:
    """It parses, is called what it is registered as, names parts that exist, and survives being written as YAML."""
    recipe = load_recipe(entry.name)
    require(recipe.name == entry.name, f"the recipe's name is {recipe.name!r}, but it is registered as {entry.name!r}.")
    parts = [("domains", recipe.domain), ("datasets", recipe.dataset), ("networks", recipe.network)]
    parts += [("paths", recipe.path), ("objectives", recipe.objective), ("training_methods", recipe.method)]
    parts += [("solvers", recipe.sampling.solver)]
    parts += [("guidance", part) for part in recipe.sampling.guidance]
    parts += [("metrics", part) for part in recipe.metrics]
    for kind, part in parts:
        plugin.registry.get(kind, part.name)
    path = plugin.scratch / f"{entry.name.replace('/', '-')}.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    require(load_recipe(path).hash == recipe.hash, "written as YAML and read again it is another recipe.")


@check("recipe.statistics", "recipes")
def statistics(plugin: Subject, entry: Entry) -> None:
    """Its options that are statistics of data (counts, scales, classes) are those of its own data set."""
    recipe = load_recipe(entry.name)
    found = plain(build_dataset(recipe, "train").statistics)
    for part in (recipe.domain, recipe.dataset):
        for name, value in part.options.items():
            if name in found and value is not None:
                require(
                    agree(value, found[name]),
                    f"its option {name} of {part.name!r} is {value!r}, but its training data say {found[name]!r}.",
                )
    fitted, _ = fit_to_data(recipe)
    require(fitted.hash == recipe.hash, f"it lacks statistics of its training data: {fitted.domain.options!r}.")


@check("recipe.weights", "recipes", optional=True, reads_data=False)
def weights(plugin: Subject, entry: Entry) -> None:
    """The bundled weights that it registers are there, load, and are of this recipe."""
    if not entry.metadata.get("weights"):
        skip("it registers no bundled weights.")
    recipe = load_recipe(entry.name)
    pipeline = load(entry.name)
    for part in ("domain", "network", "path", "parametrization", "sigma_data"):
        stored, own = getattr(pipeline.recipe, part), getattr(recipe, part)
        require(stored == own, f"the bundled weights were trained with {part} = {stored}, but the recipe says {own}.")


@check("recipe.runs", "recipes")
def runs(plugin: Subject, entry: Entry) -> None:
    """Two steps of training, then samples, a saved file, and the same samples from what is loaded."""
    recipe = _short(plugin, entry)
    folder = plugin.scratch / entry.name.replace("/", "-")
    shutil.rmtree(folder, ignore_errors=True)
    trained = train(recipe, folder)
    require((folder / "model.safetensors").is_file(), "the training left no model.safetensors.")
    data = sample_set(build_dataset(recipe, "train"), [0, 1])
    first = _made(trained, data)
    require(first.isfinite().all(), "the samples are not finite.")
    file = folder / "saved.safetensors"
    trained.save(file, overwrite=True)
    for source in (folder, file):
        again = _made(load(source), data)
        require(torch.equal(first, again), f"loaded from its {'folder' if source is folder else 'file'} it differs.")


def _made(pipeline: Pipeline, data: SampleSet) -> Tensor:
    """Two samples, asked for as two examples are; or of an autoencoder, which draws nothing, what it makes of them."""
    if isinstance(pipeline.denoiser.network, Autoencoder):
        with torch.no_grad():
            made: Tensor = pipeline.denoiser.network(data.states)
        return made
    plan = pipeline.plan()
    least = 2 * len(plan) if isinstance(plan, BlockPlan) else 2
    nfe = None if pipeline.recipe.sampling.fixed else max(least, plan.nfe // 10)
    return pipeline.sample_set(2, nfe=nfe, seed=1, condition=data.asked(2)).states


@check("recipe.masked", "recipes", optional=True)
def masked(plugin: Subject, entry: Entry) -> None:
    """Entries of absent nodes cannot influence the loss, neither as data nor as noise, whatever stands in them."""
    recipe = _short(plugin, entry)
    domain = build_domain(recipe)
    if not any(leaf.mask_axes for leaf in domain.spec.leaves):
        skip("no leaf of its states has mask_axes.")
    dataset, objective = build_dataset(recipe, "train"), build_objective(recipe)
    denoiser = build_denoiser(recipe, domain).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in denoiser.parameters():  # many start at zero on purpose
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    rows = range(min(32, len(dataset)))
    clean, condition = dataset.batch(rows)
    noise = NoiseSource(domain.spec, 3, denoiser.path.noise_law).draw(rows, 0, torch.float32)
    times = uniform(3, rows, 0, "time")
    absent = 1 - domain.spec.project(torch.ones_like(clean), condition.mask)
    require(absent.any(), f"in the first {len(rows)} examples no node is absent, so the mask cannot be tried.")

    def loss(clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return objective(denoiser, clean, noise, times, condition)

    before = loss(clean, noise)
    for what, after in (("clean", loss(clean + 3 * absent, noise)), ("noise", loss(clean, noise + 3 * absent))):
        same = torch.allclose(before, after, rtol=1e-5, atol=1e-6)
        require(
            same,
            f"other numbers in masked entries of the {what} state change the loss; mask them, and the loss weight.",
        )


def _short(plugin: Subject, entry: Entry) -> Recipe:
    options = plugin.options(entry.name)
    if any(each.name == entry.name for each in plugin.of_kind("networks")):
        # A recipe may be called as its network is; what the network is built with is no change of the recipe.
        options = {key: value for key, value in options.items() if key.partition(".")[0] in Recipe.model_fields}
    own = [f"{key}={value}" for key, value in options.items()]
    for name, model in load_recipe(entry.name).companions.items():
        stand_in = next((each for each in plugin.of_kind("recipes") if each.name == model.source), None)
        if stand_in is not None and not stand_in.metadata.get("weights"):
            own.append(f"companions.{name}={_trained(plugin, stand_in)}")
    return load_recipe(entry.name, [*SHORT, *own])


def _trained(plugin: Subject, entry: Entry) -> str:
    """Two steps of a recipe that has no bundled weights, as the companion of another; its run folder."""

    def made() -> str:
        folder = plugin.scratch / f"companion-{entry.name.replace('/', '-')}"
        train(_short(plugin, entry), folder)
        return str(folder)

    return plugin.once(("companion", entry.name), made)
