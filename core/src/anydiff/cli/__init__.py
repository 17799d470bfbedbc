"""The command line: thin, each command in a module of its own that is imported when it is used.

A command module has a function ``command`` (its parameters are typer's, its docstring is the help) or a typer app
``app``, and one line in :mod:`anydiff.builtin`. An ``Examples:`` section in the docstring keeps its lines.
"""
