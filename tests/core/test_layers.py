"""The direction of imports (docs/architecture.md): each room of the core imports only what stands below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import anydiff

ROOT = Path(anydiff.__file__).parent
# From the bottom up; rooms of one line may import one another.
LAYERS = [
    {"errors", "exports", "files", "hookspecs", "locks", "optional", "processes", "settings"},
    {"registry", "plugins", "builtin", "builtin_commands", "builtin_solvers"},
    {"states"},
    {"paths"},
    {"networks"},
    {"denoisers"},
    {"guidance"},
    {"domains", "data", "metrics"},
    {"solvers"},
    {"samplers"},
    {"objectives"},
    {"autoregressive"},
    {"distillation"},
    {"training"},
    {"calibration"},
    {"compression", "editing", "inverse", "representation"},
    {"recipes"},
    {"adapters"},
    {"tasks"},
    {"pipeline"},
    {"advise"},
    {"testing", "templates"},
    {"cli", "__main__"},
]
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}


def imported_rooms(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] if node.module != "anydiff" else [f"anydiff.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0].startswith("anydiff") and parts[0] != "anydiff":
                yield parts[0]
            elif len(parts) > 1 and ((ROOT / parts[1]).exists() or (ROOT / f"{parts[1]}.py").exists()):
                yield parts[1]


def violations(room: str, tree: ast.Module) -> list[str]:
    found = []
    for target in imported_rooms(tree):
        if target.startswith("anydiff_"):
            found.append(f"the core imports the plugin {target}")
        elif target not in HEIGHT:
            found.append(f"{target} has no layer")
        elif HEIGHT[target] > HEIGHT[room]:
            found.append(f"{room} imports {target}, which stands above it")
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    if parts == ("__init__.py",):
        return  # the package itself only names what is loaded on demand
    room = parts[0].removesuffix(".py")
    assert violations(room, ast.parse(path.read_text())) == []


def test_the_check_sees_an_arrow_that_points_up() -> None:
    assert violations("paths", ast.parse("from anydiff.samplers import sample"))
    assert violations("cli", ast.parse("import anydiff_images"))


def test_solvers_and_paths_know_no_network() -> None:
    for room in ("solvers", "samplers", "paths", "states", "guidance"):
        for path in (ROOT / room).rglob("*.py"):
            assert "networks" not in set(imported_rooms(ast.parse(path.read_text()))), path
