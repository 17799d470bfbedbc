"""Run the comparison: ``python -m anydiff_benchmarks.peers --out DIR``."""

import typer

from anydiff_benchmarks.peers.command import command

typer.run(command)
