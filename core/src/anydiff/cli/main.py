"""The command ``anydiff``. The list of plugins is answered here, without typer; all else is :mod:`anydiff.cli.app`'s.

``anydiff plugins`` is what one asks when nothing else works, so it imports as little as it can: typer brings pydantic
with it, which costs more than finding ten plugins.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from anydiff.errors import show_warning


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors are printed to stderr, in one sentence."""
    if tuple(arguments) in _LISTS:
        from anydiff.cli.plugin_list import list_plugins

        try:
            list_plugins(json="--json" in arguments)
            sys.stdout.flush()
            return 0
        except Exception:  # whatever it is, the application explains it
            pass
    from anydiff.cli.app import run_application

    return run_application(arguments)


_LISTS = {("plugins", *words) for words in [(), ("--json",), ("list",), ("list", "--json")]}


def main() -> None:
    """Run the command line of this process. Warnings are sentences like all else: where they came from helps nobody."""
    warnings.showwarning = show_warning
    sys.exit(run(sys.argv[1:]))
