"""A backbone with several exits: predictions of several kinds, and vectors, from the features of one call."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks.around import AroundNetwork
from anydiff.networks.layers import in_full_precision
from anydiff.registry import registry
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, StateSpec


class Heads(AroundNetwork):
    """``network(x, told, condition)`` gives a mapping: one prediction ``[B, *shape]`` of each name, and vectors.

    The backbone offers ``features(x, told, condition)``, ``read(features, x, exit)`` and its own last layer ``exit``,
    as ``mlp``, ``unet`` and ``dit`` do. Each further prediction has a last layer of its own, which starts at zero too;
    a vector is a linear map of the features, averaged over all positions.

    Args:
        spec: the state.
        conditions: name -> condition, handed to the backbone.
        predicts: names of the predictions: kinds of prediction (``[flow, noise]``).
        backbone: the registered name of the backbone.
        vectors: name -> size of further outputs ``[B, size]``, classes of a label say.
        told: how many numbers the path tells of the time; set by the core.
        options: of the backbone.

    Raises:
        UnknownNameError: no such backbone, or no such option of it.
        AnydiffError: a name twice, no name at all, or a backbone without features.
    """

    around = "backbone"

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        predicts: Sequence[str] = ("noise",),
        backbone: str = "mlp",
        vectors: Mapping[str, int] | None = None,
        told: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        names = [*predicts, *(vectors or {})]
        if isinstance(predicts, str) or not predicts or len(set(names)) < len(names):
            raise AnydiffError(
                f"predicts is {predicts!r} and vectors is {dict(vectors or {})!r}, but they must be a list of at least "
                "one kind of prediction and a table of sizes, every name once."
            )
        self.predicts: tuple[str, ...] = tuple(predicts)
        shared = {"told": told} if told else {}
        self.backbone = registry().build(
            "networks", backbone, spec=spec, conditions=conditions, **shared, **(options or {})
        )
        if not all(hasattr(self.backbone, name) for name in ("features", "read", "exit")):
            raise AnydiffError(
                f"the network {backbone!r} has no features to read from; choose mlp, unet or dit, or another that has."
            )
        self.exits = nn.ModuleDict({name: copy.deepcopy(self.backbone.exit) for name in self.predicts[1:]})
        width = int(self.backbone.width)
        self.vectors = nn.ModuleDict(
            {name: nn.Linear(width, natural_number(f"vectors.{name}", size)) for name, size in (vectors or {}).items()}
        )

    def forward(self, x: Tensor, told: Tensor, condition: Conditioning = UNCONDITIONAL) -> dict[str, Tensor]:
        """Every prediction and vector by its name."""
        features = self.backbone.features(x, told, condition)
        exits = [self.backbone.exit, *self.exits.values()]
        made = {name: self.backbone.read(features, x, exit_) for name, exit_ in zip(self.predicts, exits, strict=True)}
        for name, layer in self.vectors.items():
            made[name] = in_full_precision(layer, self.backbone.pooled(features))
        return made
