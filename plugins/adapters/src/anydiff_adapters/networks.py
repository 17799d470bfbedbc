"""The network of a model that an adapter read, built again from its configuration."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from anydiff.errors import UnknownNameError
from anydiff.networks import ForeignNetwork
from anydiff.states import Condition, StateSpec

LIBRARIES = ("diffusers",)
"""Libraries whose models are folders of configuration and weights."""


def network(
    spec: StateSpec,
    conditions: Mapping[str, Condition] | None = None,
    library: str = "diffusers",
    kind: str = "UNet2DModel",
    config: Mapping[str, Any] | None = None,
) -> ForeignNetwork:
    """Another library's network with fresh weights.

    Args:
        spec: of the states.
        conditions: that the domain has.
        library: whose network it is.
        kind: the class.
        config: of the class, as the library's own file has it.

    Raises:
        UnknownNameError: no such library or class.
        AnydiffError: the library is not installed.
    """
    if library not in LIBRARIES:
        raise UnknownNameError("library of adapters/network", library, LIBRARIES)
    module = importlib.import_module(f"anydiff_adapters.of_{library}")
    built: ForeignNetwork = module.build(kind, dict(config or {}), conditions or {})
    return built
