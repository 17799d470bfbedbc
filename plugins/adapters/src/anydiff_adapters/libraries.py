"""Other libraries as they are imported here: one that is not installed, or that another broken package keeps away."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any, cast

from anydiff.optional import require


def imported(module: str, what: str, install: str) -> Any:
    """The library called ``module``; arguments and errors as for :func:`anydiff.optional.require`."""
    leave_broken_torchvision_out()
    return require(module, what, install)


def leave_broken_torchvision_out() -> None:
    """Make a torchvision that does not fit the installed torch count as not installed.

    A torch for CPUs beside the torchvision of the index is common, and its import raises ``RuntimeError``: operator
    torchvision::nms does not exist. Libraries that use torchvision where it is found then fail to be imported, although
    nothing here needs it.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except (RuntimeError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = cast(Any, None)
