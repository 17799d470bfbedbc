"""anydiff: one diffusion core, any domain.

Names are imported on first use (PEP 562), so ``import anydiff`` loads neither torch nor a plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anydiff.exports import on_demand

if TYPE_CHECKING:  # what a type checker sees of _EXPORTS; the rest is Any
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
    "wrap": "anydiff.adapters",
}

__all__ = ["__version__", *_EXPORTS]


_on_demand = on_demand(__name__, _EXPORTS)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _on_demand(name)
    from importlib.metadata import version

    globals()[name] = version("anydiff")
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
