"""A network whose linear layers and convolutions hold packed integers: what ``anydiff quantise`` leaves.

It is a network of a recipe like any other (``network: quantised``): its options name the network that was quantised,
the bits, the layers and the times of the plan it was calibrated on. Layers of the temporal block (and with
``scope: all`` every layer) have one activation scale per time of that plan; another time is refused, since no scale was
made for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.compression import integer
from anydiff.compression.quantisers import (
    Quantiser,
    check_scales,
    checked_bits,
    min_max,
    pack,
    packed_bytes,
    raised,
    straight_through,
    unpack,
    weight_quantiser,
)
from anydiff.errors import AnydiffError
from anydiff.registry import registry
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, Known

if TYPE_CHECKING:
    from anydiff.states import StateSpec

QUANTISABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TIME, CONDITION, STATE = "time", "condition", "state"
"""What a layer's input depends on: the time (and the condition) alone; the condition alone; the state too."""
SCOPES = ("tib", "all")
CLOSE = 1e-5
"""Relative distance of a time from that of the table that counts as rounding."""


class Clock:
    """Which time of the table the running call has: its place; ``[B]`` where rows differ; None outside of a call."""

    def __init__(self) -> None:
        self.place: int | Tensor | None = None


class QuantisedLayer(nn.Module):
    """A linear layer or convolution with packed integer weights and quantised inputs.

    Args:
        layer: gives the shapes; its weights are quantised to the nearest.
        weights: bits.
        activations: bits.
        clock: of the network; None for one activation scale.
        times: how many activation scales.
    """

    packed: Tensor
    scale: Tensor
    zero: Tensor
    x_scale: Tensor
    x_zero: Tensor

    def __init__(self, layer: nn.Module, weights: int, activations: int, clock: Clock | None, times: int = 1) -> None:
        super().__init__()
        weight: Tensor = layer.weight  # type: ignore[assignment]
        self.shape, self.weights, self.activations, self.clock = weight.shape, weights, activations, clock
        self.geometry = _geometry(layer)
        self.plain = self.geometry is None or getattr(layer, "padding_mode", "zeros") == "zeros"
        self.padding_mode = "zeros" if self.plain else str(layer.padding_mode)
        # Always there: networks ask a layer's parameters for their type.
        none = layer.bias is None
        bias: Tensor = torch.zeros(len(weight)) if none else layer.bias.detach().clone()  # type: ignore[operator]
        self.bias = nn.Parameter(bias, requires_grad=not none)
        self.register_buffer("scale", torch.ones(len(weight)))
        self.register_buffer("packed", torch.zeros(packed_bytes(weight.numel(), weights), dtype=torch.uint8))
        self.register_buffer("zero", torch.zeros(len(weight), dtype=torch.uint8 if weights <= 8 else torch.int32))
        self.register_buffer("x_scale", torch.ones(times))
        self.register_buffer("x_zero", torch.zeros(times, dtype=torch.int32))
        self._forget()
        self.fill(weight_quantiser(weight, weights, search=False), weight)
        self.set_inputs([min_max(torch.tensor([-8.0, 8.0]), activations)] * times)
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def fill(self, quantiser: Quantiser, weight: Tensor) -> None:
        """Take the levels of ``weight`` by ``quantiser``; a weight that is on its grid is kept exactly."""
        with torch.no_grad():
            self.packed.copy_(pack(quantiser.levels(weight.detach()), self.weights))
            self.scale.copy_(quantiser.scale)
            self.zero.copy_(quantiser.zero)
        self._forget()

    def set_inputs(self, quantisers: Sequence[Quantiser]) -> None:
        """The quantisers of the inputs, one per time of the table."""
        self.x_scale.copy_(torch.cat([each.scale for each in quantisers]))
        self.x_zero.copy_(torch.cat([each.zero for each in quantisers]))
        self._forget()

    def _forget(self) -> None:
        """What is made of the packed integers is made anew when it is needed."""
        self._whole: Tensor | None = None
        self._integer: integer.IntegerLayer | None = None
        self._inputs: list[tuple[float, int]] = []

    def levels(self) -> Tensor:
        """Levels less zero points, int32 of the weight's shape."""
        found = unpack(self.packed, self.weights, self.shape)
        return found - self.zero.cpu().int().reshape(-1, *[1] * (len(self.shape) - 1))

    @property
    def weight(self) -> Tensor:
        """The dequantised weight, float32."""
        if self._whole is None or self._whole.device != self.scale.device:
            factor = self.scale.reshape(-1, *[1] * (len(self.shape) - 1))
            self._whole = self.levels().to(factor) * factor
        return self._whole

    @property
    def integer_arithmetic(self) -> bool:
        """Whether its levels fit into the operators, and these are there."""
        fits = self.weights <= 8 and self.activations <= 8 and self.plain
        return fits and self.scale.device.type == "cpu" and integer.available()

    def forward(self, x: Tensor) -> Tensor:
        """The layer's result for ``x [B, ...]``, by integers where nothing asks for a gradient."""
        place = 0 if self.clock is None else self.clock.place
        if place is None:
            raise AnydiffError("a layer of the temporal block was called outside of a call of its quantised network.")
        if not isinstance(place, int):
            shape = (-1, *[1] * (x.ndim - 1))
            return self._floating(x, self.x_scale[place].reshape(shape), self.x_zero[place].reshape(shape))
        if not self._inputs:
            self._inputs = list(zip(self.x_scale.tolist(), self.x_zero.tolist(), strict=True))
        scale, zero = self._inputs[place]
        if torch.is_grad_enabled() or x.dtype != torch.float32 or not self.integer_arithmetic:
            return self._floating(x, scale, zero)
        if self._integer is None:
            weight, bias = self.levels().to(torch.int8), self.bias.detach()
            self._integer = integer.IntegerLayer(weight, self.scale, bias, self.geometry)
        values = float(x.sum())
        if values != values:  # integers have no NaN: a cast would make a number of it
            return self._floating(x, scale, zero)
        levels = raised(x, scale, zero, 2**self.activations - 1).to(torch.uint8)
        return self._integer(levels, scale, zero)

    def _floating(self, x: Tensor, scale: Tensor | float, zero: Tensor | float) -> Tensor:
        x = straight_through(x, scale, zero, 2**self.activations - 1)
        return convolved(x, self.weight.to(x.dtype), self.bias, self.geometry, self.padding_mode)


def _forget(layer: QuantisedLayer, keys: object) -> None:
    layer._forget()
    check_scales("weights", layer.scale, layer.zero, layer.weights, signed=layer.weights == 8)
    check_scales("activations", layer.x_scale, layer.x_zero, layer.activations)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: integer.Geometry | None, mode: str) -> Tensor:
    """What a linear layer (no geometry) or convolution of these parameters makes of ``x``."""
    bias = None if bias is None else bias.to(x.dtype)
    if geometry is None:
        return functional.linear(x, weight, bias)
    padding: Sequence[int] = geometry.padding
    if mode != "zeros":
        x = functional.pad(x, [side for each in reversed(padding) for side in (each, each)], mode=mode)
        padding = (0,) * len(padding)
    convolve: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.ndim - 3]
    result: Tensor = convolve(x, weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups)
    return result


def _geometry(layer: nn.Module) -> integer.Geometry | None:
    if isinstance(layer, nn.Linear):
        return None
    if isinstance(layer.padding, str):
        raise AnydiffError(f"a convolution with padding={layer.padding!r} cannot be quantised; give numbers.")
    return integer.Geometry(layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[arg-type]


class Quantised(nn.Module):
    """A network with integer weights: called as that network is, at the times of its table alone.

    Args:
        spec: the state.
        conditions: name -> condition, handed to the network.
        network: what was quantised, ``{"name": ..., "options": ...}``.
        weights: bits of the weights, 2 to 16.
        activations: bits of the inputs of quantised layers, 2 to 16.
        layers: name of each quantised layer -> what its input depends on: ``time``, ``condition`` or ``state``.
        times: what the network is told at each time of its plan (:meth:`anydiff.paths.LinearPath.told`), in its order.
        scope: ``tib``: one activation scale per time in the layers of ``time``; ``all``: in those of ``state`` too.
        told: how many numbers the path tells of the time; set by the core.

    Raises:
        AnydiffError: bits out of range, a layer that the network lacks, an unknown scope, or times that are missing.
    """

    table: Tensor

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        network: Mapping[str, Any],
        weights: int = 8,
        activations: int = 8,
        layers: Mapping[str, str],
        times: Sequence[Any],
        scope: str = "tib",
        told: int = 0,
    ) -> None:
        super().__init__()
        self.weights, self.activations = checked_bits("weights", weights), checked_bits("activations", activations)
        if scope not in SCOPES:
            raise AnydiffError(f"scope is {scope!r}, but must be one of {', '.join(SCOPES)}.")
        if not isinstance(network, Mapping) or "name" not in network or network["name"] == "quantised":
            raise AnydiffError(f"network is {network!r}, but must name the network that was quantised.")
        if not len(times):
            raise AnydiffError("times is empty, but a quantised network has one table entry per time of its plan.")
        inner = {"told": told} if told else {}
        self.inner: nn.Module = registry().build(
            "networks", network["name"], spec=spec, conditions=conditions, **inner, **network.get("options", {})
        )
        self.layers = dict(layers)
        self.scope, self.clock = scope, Clock()
        table = torch.tensor(times, dtype=torch.float64).reshape(len(times), -1)
        self.register_buffer("table", table, persistent=False)
        modules = dict(self.inner.named_modules())
        for name, kind in self.layers.items():
            if not isinstance(modules.get(name), QUANTISABLE):
                raise AnydiffError(f"layers names {name!r}, but the network {network['name']!r} has no such layer.")
            tabled = kind == TIME or (scope == "all" and kind == STATE)
            made = QuantisedLayer(
                modules[name], weights, activations, self.clock if tabled else None, len(times) if tabled else 1
            )
            replace_module(self.inner, name, made)
        for name in ("predicts", "reads_conditions", "array_conditions"):
            if hasattr(self.inner, name):
                setattr(self, name, getattr(self.inner, name))

    def forward(self, x: Tensor, told: Tensor, condition: Conditioning = UNCONDITIONAL) -> Any:
        """What the network says at ``told``.

        Raises:
            AnydiffError: a time that is not in the table.
        """
        self.clock.place = self.place(told)
        try:
            return self.inner(x, told, condition)
        finally:
            self.clock.place = None

    def place(self, told: Tensor) -> int | Tensor:
        """The place of the rows' time in the table; ``[B]`` where they differ."""
        rows = told.detach().double().reshape(-1, self.table.shape[1]) if told.ndim else told.double().reshape(1, 1)
        rows = rows[:1] if len(rows) > 1 and bool((rows == rows[:1]).all()) else rows
        distance = ((rows[:, None] - self.table).abs() / (1 + self.table.abs())).amax(2)
        least, places = distance.min(1)
        if bool((least > CLOSE).any()):
            wrong = rows[int(least.argmax())].tolist()
            raise AnydiffError(
                f"this network was quantised for {len(self.table)} times, and {wrong} (the log-SNR, or what its path "
                "tells) is none of them: another solver, budget or grid needs other tables. Sample with the settings "
                "of its recipe, or quantise anew with those that you want."
            )
        return int(places[0]) if len(places) == 1 else places

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """As the network encodes it."""
        encode = getattr(self.inner, "encode_condition", None)
        return condition if encode is None else encode(condition)

    def seen_clean(self, condition: Conditioning) -> Known | None:
        """What the network says it sees clean."""
        seen = getattr(self.inner, "seen_clean", None)
        return None if seen is None else seen(condition)

    @property
    def arithmetic(self) -> str:
        """``integer`` where this machine multiplies integers, else ``dequantised``: right, and not fast."""
        found = [each for each in self.modules() if isinstance(each, QuantisedLayer)]
        return "integer" if found and all(each.integer_arithmetic for each in found) else "dequantised"


def replace_module(network: nn.Module, name: str, made: nn.Module) -> None:
    """Put ``made`` where the module called ``name`` stands."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent) if parent else network, last, made)
