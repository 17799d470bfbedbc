"""The benchmark of anydiff: its engine, suites, claims, peers and speed. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"

QUICK = "suites/quick.yaml"
"""The suite of ``make benchmark``, below this package."""


@hookimpl
def register_commands(register: Register) -> None:
    """``anydiff bench``, ``anydiff claims``, ``anydiff peers`` and ``anydiff speed``."""
    register(
        "benchmarks/bench", "Compare solvers over domains, budgets and seeds.", "anydiff_benchmarks.engine.command:app"
    )
    register("benchmarks/claims", "Check what papers say.", "anydiff_benchmarks.claims.command:app")
    register("benchmarks/peers", "Compare errors with other libraries.", "anydiff_benchmarks.peers.command:command")
    register("benchmarks/speed", "Measure overhead and start-up.", "anydiff_benchmarks.speed.command:command")


@hookimpl
def register_tasks(register: Register) -> None:
    """The suites: sets of tasks, methods, budgets and seeds, as YAML."""
    register(
        "benchmarks/quick",
        "four solvers at 5, 10 and 20 NFE on every installed domain, in minutes",
        "anydiff_benchmarks.engine.suite:load_suite",
        suite=f"anydiff_benchmarks:{QUICK}",
    )
    register(
        "benchmarks/inverse",
        "inverse methods at 20 NFE on every installed task with a measurement, in minutes",
        "anydiff_benchmarks.engine.suite:load_suite",
        suite="anydiff_benchmarks:suites/inverse.yaml",
    )
