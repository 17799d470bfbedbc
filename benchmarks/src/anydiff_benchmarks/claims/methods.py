"""The page of methods: which paper stands in which files, which recipe runs it, and which claim measures it.

The page is made from what the claims declare (``files`` and ``recipes`` of their ``CLAIM``), so a method's line comes
with its claim; ``anydiff claims methods --out docs/methods.md`` writes it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from anydiff.errors import AnydiffError
from anydiff.recipes import Part, Recipe, load_recipe
from anydiff.registry import registry
from anydiff_benchmarks.claims.base import load_claim, slugs

LINES = 300
"""Lines that a file of a method has at most: what is longer is more than one method."""

_HEAD = """# Methods

One row per claim of a paper: the files where its method stands, what runs it, and the check that measures what the
paper says (`anydiff claims run NAME`; stored verdicts are on [the page of claims](claims/index.md)). Files are named
below the `src` of their distribution, and none of them has more than 300 lines. A recipe with changes behind `--set`
takes the same changes on any other recipe. This page is written by `anydiff claims methods --out docs/methods.md` from
what the files in `anydiff_benchmarks/claims` declare.

| paper | files | recipe | claim |
| --- | --- | --- | --- |
"""


def methods_page() -> str:
    """The page as Markdown, a row per claim in the order of their names.

    Raises:
        AnydiffError: a claim names no file, a file that is not there or too long, or a recipe that cannot be loaded.
    """
    rows = []
    for slug in slugs():
        claim = load_claim(slug).claim
        if not claim.files:
            raise AnydiffError(f"claim {slug!r} names no files; add files=(...) with where its method stands.")
        for file in claim.files:
            _check_file(slug, file)
        cells = [
            _cell(claim.paper),
            "<br>".join(f"`{file}`" for file in claim.files),
            "<br>".join(f"`{_shown(slug, text)}`" for text in claim.recipes) or "none: models made in the claim",
            f"`{slug}`",
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    return _HEAD + "".join(rows)


def located(file: str) -> Path:
    """Where ``package/folder/file.py`` is.

    Raises:
        AnydiffError: its package is not installed, or has no such file.
    """
    package, _, inner = file.partition("/")
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    if not places:
        raise AnydiffError(f"the file {file!r} of a claim is of the package {package!r}, which is not installed.")
    found = Path(places[0]) / inner
    if not inner or not found.is_file():
        raise AnydiffError(f"the file {file!r} of a claim is not there; name it as package/folder/file.py.")
    return found


def _check_file(slug: str, file: str) -> None:
    lines = len(located(file).read_text(encoding="utf-8").splitlines())
    if lines > LINES:
        raise AnydiffError(
            f"the file {file!r} of claim {slug!r} has {lines} lines, but a method's file has at most {LINES}; split it."
        )


def _shown(slug: str, text: str) -> str:
    """A recipe with its changes, as one types it; everything that it names must be registered."""
    name, *changes = text.split()
    recipe = load_recipe(name, changes)
    for kind, part in _parts(recipe):
        if kind == "solvers" and part.name in registry().names("samplers"):
            continue
        registry().get(kind, part.name)
    command = "anydiff train" if any(not each.startswith("sampling.") for each in changes) else "anydiff sample"
    if not changes:
        return name
    if command == "anydiff sample":
        told = dict(each.split("=", 1) for each in changes)
        if set(told) != {"sampling.solver.name"}:
            raise AnydiffError(f"claim {slug!r} changes {', '.join(told)} for sampling; sampling.solver.name will do.")
        return f"{command} {name} --solver {told['sampling.solver.name']}"
    return f"{command} {name} {' '.join(f'--set {each}' for each in changes)}"


def _parts(recipe: Recipe) -> list[tuple[str, Part]]:
    return [
        ("networks", recipe.network),
        ("paths", recipe.path),
        ("objectives", recipe.objective),
        ("training_methods", recipe.method),
        ("solvers", recipe.sampling.solver),
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
