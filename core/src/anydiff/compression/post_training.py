"""Quantisation of a trained network, after its training: options, order, and what is left to be packed.

The order is that of TFMQ-DM (Huang et al. 2024, arXiv:2311.16503): the layers that see time and condition alone,
together over their finite set; the rest, block by block; then the scales of what goes into each layer, per time where
the scope says so.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from anydiff.compression.quantised import SCOPES, STATE, TIME, Clock, Quantised, QuantisedLayer
from anydiff.compression.quantisers import Quantiser, checked_bits, min_max, searched
from anydiff.compression.reconstruction import (
    Effort,
    SoftLayer,
    input_values,
    reconstruct_blocks,
    reconstruct_temporal,
    soften,
)
from anydiff.compression.temporal import Calibration, NetworkInput, joined
from anydiff.errors import UnknownNameError, natural_number

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
    scope: str = "all"
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


@dataclass(frozen=True)
class Decided:
    """How every weight and every input of a network is rounded.

    Attributes:
        layers: by name, their weights decided.
        kinds: of each layer, what its input depends on.
        inputs: of each layer the quantisers of its inputs, one per time where it has a table.
        options: by which it was decided.
    """

    layers: Mapping[str, SoftLayer]
    kinds: Mapping[str, str]
    inputs: Mapping[str, list[Quantiser]]
    options: QuantiseOptions

    def fill(self, target: Quantised) -> None:
        """Pack the integers into ``target``, which has these layers."""
        for name, layer in self.layers.items():
            place = target.inner.get_submodule(name)
            assert isinstance(place, QuantisedLayer)
            place.fill(layer.quantiser, layer.weight)
            place.set_inputs(self.inputs[name])


def decided(
    network: nn.Module, calibration: Calibration, kinds: Mapping[str, str], options: QuantiseOptions
) -> Decided:
    """Decide roundings and scales of the layers named in ``kinds``; ``network`` itself is not changed.

    Args:
        network: in full precision.
        calibration: its calls along a plan.
        kinds: name of each layer to quantise -> what its input depends on
            (:func:`anydiff.compression.temporal.found_layers`). Layers of the time that are called those of the state
            are treated as methods do that ignore time.
        options: how.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    layers = soften(network, kinds, options.weights, Clock())
    learn_roundings(network, layers, kinds, calibration, options)
    for layer in layers.values():
        layer.on = True
    return Decided(layers, kinds, input_quantisers(network, layers, kinds, calibration, options), options)


def between_ends(kinds: Mapping[str, str]) -> dict[str, str]:
    """Without the first and the last layer of the state, which stay as they are: they meet the state itself."""
    state = [name for name, kind in kinds.items() if kind == STATE]
    kept = {name: kind for name, kind in kinds.items() if name not in (state[:1] + state[-1:])}
    return kept


def learn_roundings(
    network: nn.Module, layers: Mapping[str, SoftLayer], kinds: Mapping[str, str], calibration: Calibration,
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
    network: nn.Module, layers: Mapping[str, SoftLayer], kinds: Mapping[str, str], calibration: Calibration,
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
