"""Names of a package that are imported on first use (PEP 562), so that importing the package stays cheap."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_demand(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """What a package's ``__getattr__`` is, for names that stand in modules which are loaded when a name is asked for.

    Args:
        package: the package's ``__name__``.
        modules: each name and the full name of the module that defines it.

    Returns:
        The function; it raises AttributeError for another name, as a module does.
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
