"""Objectives: one loss per example, which depends on its own example alone, heeds weights, and trains the network."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.denoisers import NetworkDenoiser, PredictionKind
from anydiff.errors import AnydiffError
from anydiff.networks import MLP
from anydiff.networks.heads import Heads
from anydiff.objectives import Beside, Objective
from anydiff.paths import LinearPath, Path, Uniform, VPLinear
from anydiff.paths.mixed import MixedPath
from anydiff.recipes.build import build_dataset, build_denoiser
from anydiff.registry import Entry
from anydiff.states import UNCONDITIONAL, Conditioning, Draws, Leaf, NoiseSource, StateSpec, positions_spec, uniform
from anydiff.testing.built import build_network
from anydiff.testing.kit import check
from anydiff.testing.networks import awake
from anydiff.testing.points import Points, random_states
from anydiff.testing.subject import Subject, require, skip
from anydiff.training import TrainingSettings
from anydiff.training.companions import frozen
from anydiff.training.examples import Examples, ExampleStream

ROWS = 4
ENDS = (2.0**-54, 1 - 2.0**-53)
"""The least and the greatest uniform number that an example can get."""


MIXED = "mixed"
MIXED_SPEC = StateSpec([Leaf("number", (2,)), Leaf("class", (1,), "categorical", 3)])
MIXED_PATH = MixedPath((("number", VPLinear()), ("class", Uniform()))).bind(MIXED_SPEC)


class _OfBothKinds(nn.Module):
    """A state of :data:`MIXED_SPEC` to numbers and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, MIXED_SPEC.prediction.size))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        predicted: Tensor = self.layers(torch.cat([x, log_snr[:, None].clamp(-9, 9)], dim=1))
        return predicted


def _objective(plugin: Subject, entry: Entry) -> Objective:
    made: Objective = plugin.build(entry)
    require(
        isinstance(made, Objective), f"it builds a {type(made).__name__}, which is no anydiff.objectives.Objective."
    )
    return made


def _problem(plugin: Subject, entry: Entry, objective: Objective) -> tuple[NetworkDenoiser, Examples]:
    """A denoiser and four examples: of the first recipe that uses the objective, else of the network that it registers
    (``network="name"``) or of an MLP, which predicts what the objective registers (``parametrization="data"``) on the
    path that it registers (``path="name"``), and reads off what it registers (``heads={"label": 3}``, classes). One of
    ``states="mixed"`` gets a number and a class."""
    recipe = plugin.recipe_of(entry)
    if recipe is not None and recipe.latent is None and not plugin.absent_data(recipe):
        denoiser = build_denoiser(recipe)
        stream = ExampleStream(build_dataset(recipe, "train"), denoiser.path, TrainingSettings(steps=1))
        examples = stream.examples(0, range(ROWS))
    elif entry.metadata.get("network"):
        named = plugin.registry.get("networks", str(entry.metadata["network"]))
        network, spec = build_network(plugin, named, more=entry.metadata.get("network_options"))
        bound = plugin.registry.build("paths", str(entry.metadata.get("path", "vp-linear"))).bind(spec)
        order = getattr(network, "order", None)
        spec = spec if order is None else positions_spec(spec, order)
        denoiser = NetworkDenoiser(network, bound, entry.metadata.get("parametrization", "noise"), spec=spec)
        examples = _random(spec, UNCONDITIONAL, bound)
    elif entry.metadata.get("states") == MIXED:
        denoiser = NetworkDenoiser(_OfBothKinds(), MIXED_PATH, "data", spec=MIXED_SPEC)
        examples = _random(MIXED_SPEC, UNCONDITIONAL, MIXED_PATH)
    elif entry.metadata.get("heads"):
        heads: dict[str, int] = entry.metadata["heads"]
        several = Heads(Points().spec, predicts=["noise"], vectors=heads, options={"width": 16, "blocks": 1})
        denoiser = NetworkDenoiser(several, VPLinear(), spec=Points().spec)
        labels = {name: torch.arange(ROWS) % classes for name, classes in heads.items()}
        examples = _random(Points().spec, Conditioning(sources=labels))
    else:
        named_path = entry.metadata.get("path")
        path: LinearPath = plugin.registry.build("paths", named_path) if named_path else VPLinear()
        network = MLP(Points().spec, Points().conditions, width=16, blocks=1, told=path.told_size)
        predicts: PredictionKind = entry.metadata.get("parametrization", "noise")
        denoiser = NetworkDenoiser(network, path, predicts, spec=Points().spec)
        given = NoiseSource(Points().spec, 7).draw(range(ROWS), 0, torch.float32)
        sources = dict.fromkeys(path.named("known", "start"), given)
        examples = _random(Points().spec, Conditioning({"label": torch.arange(ROWS) % 2}, sources=sources))
    awake(denoiser.network)
    denoiser.eval()
    objective.prepare(denoiser)
    objective.meet(denoiser, _companions(objective, denoiser))
    order = denoiser.order
    if order is not None and tuple(examples.clean.shape[1:]) == order.cut.shape:
        examples = replace(examples, clean=order.cut.split(examples.clean), noise=order.cut.split(examples.noise))
    assert denoiser.spec is not None
    numbers = objective.uniform_shape(denoiser.spec)
    if numbers:
        examples = replace(examples, uniform=uniform(6, range(ROWS), 0, "time", numbers))
    return denoiser, examples


def _companions(objective: Objective, denoiser: Any) -> dict[str, Any]:
    """A frozen model for each companion that the objective asks for: the denoiser's own copy, with other weights."""
    found = {name: frozen(copy.deepcopy(denoiser)) for name in objective.needs}
    with torch.no_grad():
        for parameter in (parameter for each in found.values() for parameter in each.parameters()):
            parameter.mul_(0.9)
    return found


def _random(spec: StateSpec, condition: Conditioning, path: Path | None = None) -> Examples:
    clean = 0.7 * NoiseSource(spec, 5).draw(range(ROWS), 0, torch.float32)
    clean = random_states(spec, ROWS) if any(leaf.categorical for leaf in spec.leaves) else clean
    noise = NoiseSource(spec, 6, None if path is None else path.noise_law).draw(range(ROWS), 0, torch.float32)
    return Examples(clean, noise, uniform(6, range(ROWS), 0, "time"), condition, list(range(ROWS)))


def _loss(
    objective: Objective, denoiser: Any, examples: Examples, rows: slice = slice(None), seed: int = 1, **changes: Any
) -> Tensor:
    """The sum of the terms; what an objective draws is keyed by the row's number among the four, and whatever it draws
    from torch's global numbers by ``seed``."""
    given = {"clean": examples.clean, "noise": examples.noise, "uniform": examples.uniform, **changes}
    condition = given.pop("condition", examples.condition)
    parts = {name: value[rows] for name, value in given.items()}
    draws = Draws(6, range(ROWS)[rows], name="objective")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        beside = Beside(_companions(objective, denoiser))
        given = {**parts, "condition": condition.rows(rows), "draws": draws, "beside": beside}
        first, *others = objective.terms(denoiser, **given).values()
    return sum(others, start=first)


@check("objective.rows", "objectives")
def rows(plugin: Subject, entry: Entry) -> None:
    """The loss is one finite number per example, [B], and depends on its own example alone.

    An objective that registers ``coupled=True`` is one whose loss depends on the whole batch, and says so.
    """
    objective = _objective(plugin, entry)
    denoiser, examples = _problem(plugin, entry, objective)
    with torch.no_grad():
        together = _loss(objective, denoiser, examples)
        found = tuple(together.shape)
        require(found == (ROWS,), f"{ROWS} examples give a loss of shape {found}, not ({ROWS},): one per example.")
        require(together.isfinite().all(), "the loss is not finite.")
        for row in range(ROWS) if not entry.metadata.get("coupled") else ():
            alone = _loss(objective, denoiser, examples, slice(row, row + 1))
            same = torch.allclose(alone[0], together[row], rtol=1e-3, atol=1e-5)
            require(
                same, f"the loss of example {row} is {float(alone):.6g} alone, {float(together[row]):.6g} among four."
            )


@check("objective.ends", "objectives")
def ends(plugin: Subject, entry: Entry) -> None:
    """The loss is finite at both ends of the times."""
    objective = _objective(plugin, entry)
    denoiser, examples = _problem(plugin, entry, objective)
    for end in ENDS:
        with torch.no_grad():
            loss = _loss(objective, denoiser, examples, uniform=torch.full_like(examples.uniform, end))
        require(loss.isfinite().all(), f"with the uniform number {end!r} the loss is not finite: {loss.tolist()}.")


@check("objective.gradients", "objectives")
def gradients(plugin: Subject, entry: Entry) -> None:
    """The gradient of the loss reaches the network, and is finite."""
    objective = _objective(plugin, entry)
    denoiser, examples = _problem(plugin, entry, objective)
    loss = _loss(objective, denoiser, examples).sum()
    require(loss.requires_grad, "no gradient of the loss reaches the network, so nothing would be trained.")
    loss.backward()  # type: ignore[no-untyped-call]
    found = [p.grad for p in denoiser.network.parameters() if p.grad is not None]
    moved = any(bool((gradient != 0).any()) for gradient in found)
    require(moved, "the gradient of the loss by every parameter of the network is zero, so nothing would be trained.")
    require(all(bool(gradient.isfinite().all()) for gradient in found), "the gradient of the loss is not finite.")


@check("objective.random", "objectives")
def random(plugin: Subject, entry: Entry) -> None:
    """What the objective draws is keyed by the examples: torch's global random numbers do not change the loss."""
    objective = _objective(plugin, entry)
    denoiser, examples = _problem(plugin, entry, objective)
    with torch.no_grad():
        first, second = (_loss(objective, denoiser, examples, seed=seed) for seed in (1, 2))
    require(
        torch.allclose(first, second, rtol=1e-4, atol=1e-6),
        "the loss of the same examples changes with torch's global random numbers, so that resumption and micro "
        "batches would change a training; draw from call.draws, or from the examples' noise.",
    )


@check("objective.modules", "objectives", optional=True)
def modules(plugin: Subject, entry: Entry) -> None:
    """Modules that the objective owns are the same at every question, and the loss trains all of their parameters."""
    objective = _objective(plugin, entry)
    denoiser, examples = _problem(plugin, entry, objective)
    own = dict(objective.modules())
    if not own:
        skip("it owns no modules.")
    again = objective.modules()
    same = own.keys() == again.keys() and all(again[name] is module for name, module in own.items())
    require(same, "modules() gives other modules at every question; make them once, in __init__ or prepare.")
    awake(nn.ModuleDict(own))
    _loss(objective, denoiser, examples).sum().backward()  # type: ignore[no-untyped-call]
    for name, module in own.items():
        for key, parameter in module.named_parameters():
            if parameter.requires_grad:
                require(parameter.grad is not None, f"no gradient of the loss reaches {key!r} of its module {name!r}.")
                finite = bool(torch.as_tensor(parameter.grad).isfinite().all())
                require(finite, f"the gradient of the loss by {key!r} of its module {name!r} is not finite.")


class _Entrywise(nn.Module):
    """Predicts each entry from itself, so that no other entry of the state can carry an influence."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))  # so that a companion with other weights predicts something else

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        return 0.1 + self.scale * torch.sigmoid(x)


@check("objective.weights", "objectives", optional=True)
def weights(plugin: Subject, entry: Entry) -> None:
    """Entries whose ``loss_weight`` is zero have no influence on the loss, and those of a larger one have a larger."""
    objective = _objective(plugin, entry)
    spec = StateSpec.single((4, 3), name="rows")
    examples = _random(spec, UNCONDITIONAL)
    mask = torch.ones_like(examples.clean)
    mask[:, 2] = 0.0
    other = torch.where(mask > 0, examples.clean, examples.clean.abs() + 0.5)
    with torch.no_grad():
        for kind in ("noise", "data"):
            denoiser = NetworkDenoiser(_Entrywise(), VPLinear(), kind, spec=spec)
            try:
                before = _loss(objective, denoiser, examples, condition=Conditioning(loss_weight=mask))
            except AnydiffError as error:
                refused = error
                continue
            break
        else:
            skip(f"it takes no network that predicts each entry by itself: {refused}")
        after = _loss(objective, denoiser, examples, clean=other, condition=Conditioning(loss_weight=mask))
        plain = _loss(objective, denoiser, examples, condition=Conditioning(loss_weight=torch.ones_like(mask)))
    same = torch.allclose(before, after, rtol=1e-5, atol=1e-6)
    require(same, "other numbers in entries whose loss_weight is zero change the loss.")
    require(not torch.allclose(before, plain, rtol=1e-5), "a loss_weight that leaves entries out changes nothing.")
