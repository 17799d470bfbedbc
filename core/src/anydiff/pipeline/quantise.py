"""From a trained pipeline to one with integer weights, on the plan that its recipe samples with.

The order is that of TFMQ-DM (Huang et al. 2024, arXiv:2311.16503): record what the network is called with along the
plan; find the layers that see time and condition alone; learn their roundings together over that finite set; learn the
rest block by block; then measure what goes into each layer, per time where the scope says so.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anydiff.compression.quantised import SCOPES, STATE, TIME, Clock, Quantised
from anydiff.compression.quantisers import Quantiser, checked_bits, min_max, searched
from anydiff.compression.reconstruction import (
    Effort,
    SoftLayer,
    input_values,
    reconstruct_blocks,
    reconstruct_temporal,
    soften,
)
from anydiff.compression.temporal import Calibration, NetworkInput, found_layers, joined, recorded
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.networks import Autoencoder
from anydiff.recipes import Part
from anydiff.recipes.build import build_denoiser
from anydiff.states import ClassCondition, Conditioning

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

MOST_VALUES = 1 << 16
"""Inputs of a layer that its scale is searched on."""


@dataclass(frozen=True)
class QuantiseOptions:
    """How a model is quantised.

    Attributes:
        weights: bits of weights, 2 to 16.
        activations: bits of what goes into quantised layers, 2 to 16.
        scope: where there is one activation scale per time: ``tib``, in the layers that see time and condition alone;
            ``all``, in those of the state too.
        rounding: ``adaptive``: learned; ``nearest``: not.
        samples: drawn along the plan to calibrate on.
        rows: of network calls that roundings of the state's layers are learned on.
        effort: how long roundings are learned.
        seed: of samples and batches.
    """

    weights: int = 8
    activations: int = 8
    scope: str = "tib"
    rounding: str = "adaptive"
    samples: int = 64
    rows: int = 256
    effort: Effort = field(default_factory=Effort)
    seed: int = 0

    def __post_init__(self) -> None:
        checked_bits("weights", self.weights)
        checked_bits("activations", self.activations)
        natural_number("samples", self.samples)
        natural_number("rows", self.rows)
        natural_number("iterations", self.effort.iterations)
        if self.scope not in SCOPES:
            raise UnknownNameError("scope", self.scope, SCOPES)
        if self.rounding not in ("adaptive", "nearest"):
            raise UnknownNameError("rounding", self.rounding, ("adaptive", "nearest"))


def quantise(
    pipeline: Pipeline, options: QuantiseOptions | None = None, calibration: Calibration | None = None
) -> Pipeline:
    """``pipeline`` with a network of packed integers, for the plan of its recipe (:func:`calibrated` on it).

    Args:
        pipeline: trained; it is not changed.
        options: how.
        calibration: of this pipeline on this plan, where it was made already.

    Raises:
        AnydiffError: an autoencoder, a network that is quantised already, one without layers to quantise, or a
            calibration on another plan.
    """
    options = options or QuantiseOptions()
    refuse(pipeline)
    plan = repr(pipeline.plan())
    calibration = calibration or calibrated(pipeline, options)
    if calibration.plan != plan:
        raise AnydiffError(
            "the calibration was made on another plan than the recipe samples with, so its tables would be of other "
            "times; calibrate anew, or set the recipe's sampling to that plan."
        )
    network = copy.deepcopy(pipeline.denoiser.network).eval().requires_grad_(False)
    kinds = between_ends(found_layers(network, calibration))
    if not kinds:
        raise AnydiffError(
            f"the network of {pipeline.recipe.name!r} has no linear layer or convolution between its first and its "
            "last, so nothing would be quantised."
        )
    clock = Clock()
    layers = soften(network, kinds, options.weights, clock)
    learn_roundings(network, layers, kinds, calibration, options)
    for layer in layers.values():
        layer.on = True
    inputs = input_quantisers(network, layers, kinds, calibration, options)
    return packed(pipeline, layers, kinds, inputs, calibration, options)


def described(pipeline: Pipeline) -> str:
    """What a quantised pipeline holds, in a few words."""
    network = pipeline.denoiser.network
    assert isinstance(network, Quantised)
    kinds = list(network.layers.values())
    return (
        f"{len(kinds)} layers of {network.weights} bits, {kinds.count(TIME)} of them of the time alone, for "
        f"{len(network.table)} times; arithmetic here: {network.arithmetic}"
    )


def refuse(pipeline: Pipeline) -> None:
    """Refuse what cannot be quantised.

    Raises:
        AnydiffError: the network is quantised already, or an autoencoder.
    """
    if isinstance(pipeline.denoiser.network, Quantised):
        raise AnydiffError(
            f"{pipeline.recipe.name!r} is quantised already ({pipeline.denoiser.network.weights} bits); quantise the "
            "model that it was made from."
        )
    if isinstance(pipeline.denoiser.network, Autoencoder):
        raise AnydiffError(
            f"{pipeline.recipe.name!r} is an autoencoder, which is called at no times; quantise a model that samples."
        )


def calibrated(pipeline: Pipeline, options: QuantiseOptions) -> Calibration:
    """What the network is called with while the recipe's plan runs: guidance, presence and inner times included.

    Conditions are those of held-out cases; classes are taken in turn, so that each occurs.
    """
    rows, condition = _conditions(pipeline, options.samples)
    plan = pipeline.plan()

    def run() -> None:
        with torch.no_grad():
            pipeline.sample_set(rows, solver=plan, condition=condition, seed=options.seed)

    return recorded(pipeline.denoiser.network, run, repr(plan))


def _conditions(pipeline: Pipeline, samples: int) -> tuple[int, Conditioning]:
    kinds = pipeline.domain.conditions
    classes = {name: kind.classes for name, kind in kinds.items() if isinstance(kind, ClassCondition)}
    rows = max([samples, *classes.values()])
    if not kinds and not pipeline.domain.spec.masked:
        return rows, Conditioning()
    if set(kinds) == set(classes) and not pipeline.domain.spec.masked:
        asked = Conditioning()
    else:
        reference = pipeline.reference(rows)
        asked = reference.asked(rows)
    given = {name: torch.arange(rows) % count for name, count in classes.items()}
    return rows, asked.with_given(**given)


def between_ends(kinds: dict[str, str]) -> dict[str, str]:
    """Without the first and the last layer of the state, which stay as they are: they meet the state itself."""
    state = [name for name, kind in kinds.items() if kind == STATE]
    kept = {name: kind for name, kind in kinds.items() if name not in (state[:1] + state[-1:])}
    return kept


def learn_roundings(
    network: nn.Module, layers: dict[str, SoftLayer], kinds: dict[str, str], calibration: Calibration,
    options: QuantiseOptions,
) -> None:  # fmt: skip
    """Decide how every weight is rounded, as ``options.rounding`` says."""
    if options.rounding == "nearest":
        return
    generator = torch.Generator().manual_seed(options.seed)
    temporal = {name: layer for name, layer in layers.items() if kinds[name] == TIME}
    reconstruct_temporal(network, temporal, finite_set(calibration), options.effort, generator)
    for layer in temporal.values():
        layer.on = True
    some = calibration.some(options.rows, generator)
    reconstruct_blocks(network, layers, kinds, some, options.effort, generator)


def finite_set(calibration: Calibration) -> NetworkInput:
    """One row of every time, condition and presence that occurs, the states left as they come."""
    kept = []
    for call in calibration.calls:
        keys: dict[bytes, int] = {}
        tensors = [value.flatten(1) if value.ndim > 1 else value[:, None] for _, value in call.condition.tensors()]
        table = torch.cat([each.double() for each in tensors], 1) if tensors else torch.zeros(len(call.x), 1)
        for row, values in enumerate(table.numpy()):
            keys.setdefault(values.tobytes(), row)
        kept.append(call.rows(torch.tensor(list(keys.values()))))
    return joined(kept)


def input_quantisers(
    network: nn.Module, layers: dict[str, SoftLayer], kinds: dict[str, str], calibration: Calibration,
    options: QuantiseOptions,
) -> dict[str, list[Quantiser]]:  # fmt: skip
    """Name of each layer -> the quantisers of its inputs, per time where the scope says so.

    Layers of the time take the exact range of their finite set; the others a searched one.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    for call in calibration.calls:
        for name, values in input_values(network, layers, call).items():
            exact = kinds[name] == TIME
            seen[name].append(values if exact else _thinned(values, len(calibration.calls)))
    found = {}
    for name, parts in seen.items():
        tabled = kinds[name] == TIME or (options.scope == "all" and kinds[name] == STATE)
        make = min_max if kinds[name] == TIME else searched
        groups = parts if tabled else [torch.cat(parts)]
        found[name] = [make(each, options.activations) for each in groups]
    return found


def _thinned(values: Tensor, calls: int) -> Tensor:
    step = max(1, len(values) * calls // MOST_VALUES)
    extremes = torch.stack([values.min(), values.max()]) if len(values) else values
    return torch.cat([values[::step], extremes])


def packed(
    pipeline: Pipeline, layers: dict[str, SoftLayer], kinds: dict[str, str], inputs: dict[str, list[Quantiser]],
    calibration: Calibration, options: QuantiseOptions,
) -> Pipeline:  # fmt: skip
    """The pipeline whose network holds the integers."""
    recipe = pipeline.recipe
    settings = {
        "network": recipe.network.model_dump(mode="json"),
        "weights": options.weights,
        "activations": options.activations,
        "layers": kinds,
        "times": calibration.times,
        "scope": options.scope,
    }
    sampling = recipe.sampling.model_copy(update={"fixed": True})
    made = recipe.model_copy(update={"network": Part(name="quantised", options=settings), "sampling": sampling})
    spec = None if pipeline.latent is None else pipeline.latent.spec
    denoiser = build_denoiser(made, pipeline.domain, spec).eval()
    network = denoiser.network
    assert isinstance(network, Quantised)
    whole, own = pipeline.denoiser.network.state_dict(), network.inner.state_dict()
    network.inner.load_state_dict({name: whole[name] if name in whole else own[name] for name in own})
    for name, layer in layers.items():
        target: Any = network.inner.get_submodule(name)
        target.fill(layer.quantiser, layer.weight)
        target.set_inputs(inputs[name])
    metadata = {**pipeline.metadata, "quantised_from": pipeline.weights_hash}
    return replace(pipeline, recipe=made, denoiser=denoiser, metadata=metadata, origin="")
