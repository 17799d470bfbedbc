"""Run the study: ``python -m anydiff_benchmarks.advice --out DIR``."""

import typer

from anydiff_benchmarks.advice.command import command

typer.run(command)
