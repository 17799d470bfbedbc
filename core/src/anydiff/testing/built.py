"""A network as the kit builds it: in the process that checks it, and in the one that knows its file alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.registry import Entry
from anydiff.states import ClassCondition, StateSpec
from anydiff.testing.subject import Subject


def build_network(
    plugin: Subject, entry: Entry, seed: int = 0, more: Mapping[str, Any] | None = None
) -> tuple[nn.Module, StateSpec]:
    """The network for its recipe's states, or for the shape that ANYDIFF_CHECK_OPTIONS gives; else points.

    ``more`` are further options.
    """
    # Names are of a kind: an operator may be called as a network is.
    options = plugin.options(f"networks:{entry.name}") or plugin.options(entry.name)
    shape = options.pop("spec", None)
    recipe = plugin.recipe_of(entry)
    conditions: dict[str, object] = {"label": ClassCondition(3)}
    # A list is the shape of real numbers; a table holds the shape and further options of the leaf.
    leaf = shape if isinstance(shape, Mapping) else {"shape": shape or (2,)}
    spec = StateSpec.single(**{**leaf, "shape": tuple(leaf["shape"])})
    if shape is None and recipe is not None:
        from anydiff.recipes.build import build_domain

        domain = build_domain(recipe)
        spec, conditions, options = domain.spec, domain.conditions, {**recipe.network.options, **options}
    options = {**options, **(more or {})}
    torch.manual_seed(seed)
    network: nn.Module = plugin.registry.build("networks", entry.name, spec=spec, conditions=conditions, **options)
    if getattr(network, "predicts", ()):
        network = FirstPrediction(network)
    return network.eval(), spec


class FirstPrediction(nn.Module):
    """A network of several predictions as one of the first of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.first = network, next(iter(network.predicts))  # type: ignore[arg-type]

    def forward(self, *given: Any) -> Tensor:
        """The first prediction ``[B, *shape]``."""
        made: Tensor = self.network(*given)[self.first]
        return made
