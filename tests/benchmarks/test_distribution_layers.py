"""Arrows between distributions and circles of files: read from the imports of core, plugins and benchmarks."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from anydiff_benchmarks.engine.identity import WITHOUT_INFLUENCE

REPOSITORY = Path(__file__).parents[2]
BENCHMARKS = "anydiff_benchmarks"
PACKAGES = {
    folder.parent.name: folder.parent
    for pattern in ("core/src/*", "plugins/*/src/*", "benchmarks/src/*")
    for folder in sorted(REPOSITORY.glob(f"{pattern}/__init__.py"))
}
"""Import package of every distribution -> its folder."""


def modules(package: str, root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def imported(nodes: Iterator[ast.AST], own: str, is_package: bool) -> Iterator[tuple[str, str]]:
    """(module, name in it or nothing) of whatever is imported, relative imports made absolute."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = own.split(".")[: len(own.split(".")) - node.level + is_package] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def imported_names(path: Path, own: str) -> set[str]:
    """``package.module`` and ``package.module.name`` of all imports of a file, in functions too."""
    found = imported(ast.walk(ast.parse(path.read_text())), own, path.name == "__init__.py")
    return {text for module, name in found for text in (module, f"{module}.{name}")}


def when_run(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs at some time, bodies of functions included: all but what is for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from when_run(node)


def foreign(package: str, names: set[str]) -> set[str]:
    """The packages among ``names`` that ``package`` may not import: the core none of ours, a plugin the core alone."""
    ours = {name.split(".")[0] for name in names if name.split(".")[0].startswith("anydiff")}
    return ours - {package, "anydiff"} if package != BENCHMARKS else set()


def circles(edges: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules that import one another, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for target in edges[name]:
            if target not in order:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], order[target])
        if lowest[name] == order[name]:
            index = stack.index(name)
            if len(stack) - index > 1:
                found.add(frozenset(stack[index:]))
            del stack[index:]

    for name in edges:
        if name not in order:
            visit(name)
    return found


def edges_of(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports, at once or later."""
    edges = {}
    for own, path in files.items():
        found = imported(when_run(ast.parse(path.read_text())), own, path.name == "__init__.py")
        # `from package import module` needs the module; `from package.module import thing` the module it comes from.
        targets = {f"{module}.{name}" if f"{module}.{name}" in files else module for module, name in found}
        edges[own] = {target for target in targets if target in files and target != own}
    return edges


def test_all_distributions_are_read():
    assert {"anydiff", "anydiff_images", "anydiff_weather", BENCHMARKS} <= PACKAGES.keys()
    assert len(PACKAGES) == 12


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_imports_a_plugin_or_the_benchmarks(package):
    """Wherever the import stands, in a function too. The benchmarks may import plugins: claims are about them."""
    found = {}
    for name, path in modules(package, PACKAGES[package]).items():
        names = imported_names(path, name)
        if foreign(package, names):
            found[name] = foreign(package, names)
    assert found == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_files(package):
    """An import inside a function hides a circle and does not open it: what both need belongs into a third file."""
    assert circles(edges_of(modules(package, PACKAGES[package]))) == set()


def test_the_engine_knows_no_plugin_and_nothing_that_does_not_count():
    """Rows are keyed by the engine's code without these rooms, so no number may pass through one of them."""
    root = PACKAGES[BENCHMARKS]
    closed = {f"{BENCHMARKS}.{name.removesuffix('.py').replace('/', '.')}" for name in WITHOUT_INFLUENCE}
    assert all((root / name).exists() for name in WITHOUT_INFLUENCE)
    for name, path in modules(BENCHMARKS, root).items():
        if any(name == each or name.startswith(f"{each}.") for each in closed):
            continue
        names = imported_names(path, name)
        assert not {each for each in names if any(each == room or each.startswith(f"{room}.") for room in closed)}, name
        assert {each.split(".")[0] for each in names if each.startswith("anydiff_")} <= {BENCHMARKS}, name


# The checks themselves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "text", "refused"),
    [
        ("anydiff", "import anydiff_images", {"anydiff_images"}),
        ("anydiff", "def f():\n    from anydiff_benchmarks.engine import suite", {BENCHMARKS}),
        ("anydiff_images", "from anydiff_weather.domain import Weather", {"anydiff_weather"}),
        ("anydiff_images", "from anydiff_benchmarks import engine", {BENCHMARKS}),
        ("anydiff_images", "from anydiff.tasks import Task\nfrom . import data", set()),
        (BENCHMARKS, "from anydiff_weather.domain import Weather", set()),
    ],
)
def test_a_foreign_import_is_seen(tmp_path, package, text, refused):
    (tmp_path / "x.py").write_text(text)
    assert foreign(package, imported_names(tmp_path / "x.py", f"{package}.x")) == refused


def test_a_circle_is_seen(tmp_path):
    files = {
        "__init__": "from p.a import x",
        "a": "from p import b\nx = 1",
        "b": "from p.c import y",
        "c": "if True:\n    from .a import x\ny = 2",
        "lazy": "def f():\n    from p import early",
        "early": "from p.lazy import f",
        "typed": "if TYPE_CHECKING:\n    from p.named import x",
        "named": "from p.typed import y",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    found = {frozenset({"p.a", "p.b", "p.c"}), frozenset({"p.lazy", "p.early"})}
    assert circles(edges_of(modules("p", tmp_path))) == found
