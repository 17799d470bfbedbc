"""Packages that are not always installed: imported where they are needed, or one sentence that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from anydiff.errors import AnydiffError

__all__ = ["missing", "require"]


def require(module: str, what: str, install: str, *, instead: str = "") -> Any:
    """The module called ``module``, imported.

    Args:
        module: as ``import`` names it.
        what: what the user wanted, as the sentence begins: ``"reading DICOM"``.
        install: what pip installs: ``"anydiff-volumes[dicom]"``.
        instead: another way out: ``"give a folder of pictures"``.

    Raises:
        AnydiffError: the module is not installed or cannot be imported; see :func:`missing`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == module
        raise missing(what, module, install, reason="" if absent else str(error), instead=instead) from error


def missing(what: str, package: str, install: str, *, reason: str = "", instead: str = "") -> AnydiffError:
    """The error that says what needs ``package``, and how it is installed; nothing is raised here.

    Args:
        what: see :func:`require`.
        package: what is missing, as people call it.
        install: see :func:`require`.
        reason: why it cannot be used, where it is more than not installed; shortened to one line.
        instead: see :func:`require`.
    """
    trouble = f"which cannot be imported ({' '.join(reason.split())[:150]})" if reason else "which is not installed"
    way_out = f", or {instead}" if instead else ""
    return AnydiffError(f"{what} needs {package}, {trouble}; run `pip install '{install}'`{way_out}.")
