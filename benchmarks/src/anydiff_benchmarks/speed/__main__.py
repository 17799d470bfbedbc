"""Run the measurement: ``python -m anydiff_benchmarks.speed --out DIR``."""

import typer

from anydiff_benchmarks.speed.command import command

typer.run(command)
