"""The command line: thin, each command in a module of its own that is imported when it is used.

A command module has a function ``command`` (its parameters are typer's, its docstring is the help) or a typer app
``app``, and one line in :mod:`anydiff.builtin`. An ``Examples:`` section in the docstring keeps its lines.
"""

from typing import TYPE_CHECKING

from anydiff.exports import on_demand

if TYPE_CHECKING:
    from anydiff.cli.common import refuse_existing as refuse_existing
    from anydiff.cli.output import counted as counted
    from anydiff.cli.output import print_table as print_table
    from anydiff.cli.output import tell as tell

_EXPORTS = {
    "counted": "anydiff.cli.output",
    "print_table": "anydiff.cli.output",
    "refuse_existing": "anydiff.cli.common",
    "tell": "anydiff.cli.output",
}

__all__ = [*_EXPORTS]

# Lazily, because `anydiff --help` needs none of it.
__getattr__ = on_demand(__name__, _EXPORTS)
