"""``anydiff operators`` and ``anydiff inverse``: what can be measured, and how states are found of which it was."""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli.output import print_json, print_table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def operators(json: Json = False) -> None:
    """List the operators: what a measurement makes of a state.

    Examples:
      anydiff operators
      anydiff operators --json
    """
    from anydiff.registry import registry

    entries = registry().entries("operators")
    if json:
        print_json(
            [{"name": e.name, "help": e.help, "plugin": e.plugin, "linear": e.metadata.get("linear")} for e in entries]
        )
        return
    rows = [[entry.name, "yes" if entry.metadata.get("linear") else "no", entry.help] for entry in entries]
    print_table(["operator", "linear", "what it is"], rows)


FACTS = ("kind", "estimate", "takes", "source")


def inverse(json: Json = False) -> None:
    """List the methods for inverse problems: samples or one estimate, what they take, and the source.

    Examples:
      anydiff inverse
      anydiff inverse --json
    """
    from anydiff.registry import registry

    entries = registry().entries("inverse_methods")
    if json:
        facts = [{fact: entry.metadata.get(fact) for fact in FACTS} for entry in entries]
        print_json(
            [
                {"name": entry.name, "help": entry.help, "plugin": entry.plugin, **known}
                for entry, known in zip(entries, facts, strict=True)
            ]
        )
        return
    rows = [[entry.name, *(entry.metadata.get(fact, "") for fact in FACTS), entry.help] for entry in entries]
    print_table(["method", *FACTS, "what it is"], rows)
