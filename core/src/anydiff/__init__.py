"""anydiff: one diffusion core, any domain.

Names are imported on first use (PEP 562), so ``import anydiff`` loads neither torch nor a plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees; keep in step with _EXPORTS
    from anydiff.errors import AnydiffError as AnydiffError
    from anydiff.hookspecs import hookimpl as hookimpl

_EXPORTS = {
    # name: module that defines it
    "AnydiffError": "anydiff.errors",
    "hookimpl": "anydiff.hookspecs",
    "compile_plan": "anydiff.solvers",
    "sample": "anydiff.samplers",
    "load": "anydiff.pipeline",
    "Pipeline": "anydiff.pipeline",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("anydiff")
    elif name in _EXPORTS:
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
    else:
        raise AttributeError(f"module 'anydiff' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
