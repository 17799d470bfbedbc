"""The public surface: docs/api/public.md lists what rooms say in ``__all__``, and our own code imports nothing else."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import anydiff
from anydiff import hookspecs
from anydiff.cli.lazy import build_command
from anydiff.registry import CORE, registry
from anydiff.solvers import plan
from anydiff.training import run, weights
from anydiff_benchmarks.engine import store

ROOT = Path(__file__).parents[2]
CORE_FOLDER = Path(anydiff.__file__).parent
PAGE = (ROOT / "docs" / "api" / "public.md").read_text(encoding="utf-8")
HOOKS = [name for name, value in vars(hookspecs).items() if hasattr(value, "anydiff_spec")]
SOURCES = ("plugins/*/src/**/*.py", "benchmarks/src/**/*.py", "examples/*.py", "core/src/anydiff/templates/**/*.py.txt")


def tables(page: str) -> dict[str, dict[str, list[str]]]:
    """Heading -> first cell of each row, without marks -> the other cells."""
    found: dict[str, dict[str, list[str]]] = {}
    for section in re.split(r"(?m)^## ", page)[1:]:
        heading, _, body = section.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("| `") or line.startswith("| a")]
        cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        found[heading.strip("` ")] = {row[0].strip("`"): row[1:] for row in cells}
    return found


def rooms() -> Iterator[str]:
    """Every module of the core that says by ``__all__`` what of it is public."""
    for path in sorted(CORE_FOLDER.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for node in body):
            parts = path.relative_to(CORE_FOLDER.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TABLES = tables(PAGE)
ROOMS = list(rooms())


def public_names(room: str) -> list[str]:
    own = list(importlib.import_module(room).__all__)
    return [*own, *HOOKS] if room == hookspecs.__name__ else own


NAMES = {room: set(public_names(room)) for room in ROOMS}


def test_the_page_lists_every_room_and_no_other():
    assert {heading for heading in TABLES if heading.partition(".")[0] == "anydiff"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_listed_as_it_is(room):
    """Each name once, with a line that says what it is, and importable."""
    names = public_names(room)
    assert len(names) == len(NAMES[room])
    assert list(TABLES[room]) == names, "docs/api/public.md and __all__ say the same, in one order"
    assert all(len(cells) == 1 and len(cells[0]) > 10 for cells in TABLES[room].values())
    module = importlib.import_module(room)
    assert [name for name in names if not hasattr(module, name)] == []
    assert [name for name in names if name.startswith("_") and name != "__version__"] == []


def test_formats_are_those_that_are_written():
    numbers = {name.partition(" (")[0]: cells for name, cells in _rows_of("Files").items()}
    assert numbers["plan"][0] == f"`{plan.FORMAT}`"
    assert numbers["weights"][0] == f"`{weights.FORMAT}`"
    assert f"`{weights.BEFORE}`" in numbers["weights"][2]
    assert numbers["run folder"][0] == f"`{run.STATE_FORMAT}`"
    assert f"`{run.STATE_BEFORE}`" in numbers["run folder"][2]
    assert numbers["rows of a benchmark"][0] == f"`{store.FORMAT}`"


def _rows_of(heading: str) -> dict[str, list[str]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0]: row[1:] for row in rows}


def commands() -> Iterator[tuple[str, list[str]]]:
    """The commands of the core and of the benchmarks, each with the names of its arguments and options."""

    def walk(command, name):
        told = [
            text
            for parameter in command.params
            for text in (
                [parameter.name.upper()]
                if parameter.param_type_name == "argument"
                else [*parameter.opts, *parameter.secondary_opts]
            )
            if text != "--help"
        ]
        if told or not getattr(command, "commands", {}) or command.invoke_without_command:
            yield f"anydiff {name}", told
        for key, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{name} {key}")

    for entry in registry().entries("commands"):
        if entry.plugin in (CORE, "benchmarks"):
            yield from walk(build_command(entry), entry.name.rpartition("/")[2])


def test_commands_and_their_options_are_listed():
    listed = {name: re.findall(r"`([^`]+)`", cells[0]) for name, cells in TABLES["Commands"].items()}
    assert listed == dict(commands())


def test_what_a_module_or_the_environment_may_say_is_listed():
    texts = [path.read_text(encoding="utf-8") for path in CORE_FOLDER.rglob("*.py")]
    used = {name for text in texts for name in re.findall(r"\bANYDIFF_[A-Z_]+\b", text)}
    assert set(TABLES["What a plugin's module and the environment may say"]) == used


# Our own code -------------------------------------------------------------------------------------------------------


def not_public(text: str) -> list[str]:
    """What a file imports from the core that is no public name of a public room."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [
                alias.name
                for alias in node.names
                if alias.name.partition(".")[0] == "anydiff" and alias.name not in ROOMS
            ]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "anydiff":
            names = [(f"{node.module}.{alias.name}", alias.name) for alias in node.names]
            found += [full for full, name in names if name not in NAMES.get(node.module, ()) and full not in ROOMS]
    return found


def our_files() -> list[Path]:
    return sorted(path for pattern in SOURCES for path in ROOT.glob(pattern))


def test_our_own_code_imports_public_names_alone():
    """Else the public surface is too small for a third party, and we would not notice.

    Where this fails: use a public name, or promise the one that is needed, in the room's ``__all__`` and on the page.
    """
    files = our_files()
    assert len(files) > 250
    assert {str(path.parent.relative_to(ROOT)).partition("/")[0] for path in files} == {
        "plugins", "benchmarks", "examples", "core",
    }  # fmt: skip
    texts = {path: re.sub(r"@([A-Z]+)@", r"\1", path.read_text(encoding="utf-8")) for path in files}
    assert {str(path.relative_to(ROOT)): found for path, text in texts.items() if (found := not_public(text))} == {}


def test_the_documentation_shows_public_names_alone():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/README.md")]
    blocks = [
        (str(page.relative_to(ROOT)), block)
        for page in pages
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(blocks) > 20
    assert {page: found for page, block in blocks if (found := not_public(block))} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from anydiff.solvers.base import Solver", ["anydiff.solvers.base.Solver"]),
        ("def f():\n    import anydiff.training.fit", ["anydiff.training.fit"]),
        ("from anydiff.solvers import exponential", ["anydiff.solvers.exponential"]),
        ("from anydiff.plugins import forget", ["anydiff.plugins.forget"]),
        ("from anydiff.states import StateSpec\nfrom anydiff import states\nimport anydiff.paths", []),
        ("from anydiff_images.files import read", []),
    ],
)
def test_a_name_that_is_not_public_is_seen(text, found):
    assert not_public(text) == found
