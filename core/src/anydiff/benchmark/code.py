"""Which code a number depends on, as a hash: the modules that can change it, and nothing else of the core.

The sources are read, not run. From the modules that make a row (the pipeline, the solver, the path, the network, ...)
imports are followed through the core; what a package merely hands on (``from anydiff.solvers import Plan``) is followed
to the module that defines it, so another solver's file is not part of the hash. Docstrings, comments and layout do not
count. A plugin is small and free to look up anything by name, so all of its modules count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

CORE = "anydiff"
WITHOUT_INFLUENCE = (
    "anydiff.cli", "anydiff.plugins", "anydiff.testing", "anydiff.templates", "anydiff.registry", "anydiff.hookspecs",
    "anydiff.builtin", "anydiff.errors", "anydiff.files", "anydiff.data", "anydiff.benchmark.report",
    "anydiff.benchmark.lock", "anydiff.benchmark.task", "anydiff.benchmark.identity", "anydiff.benchmark.code",
)  # fmt: skip
"""Modules and packages that are looked at or passed through, but cannot change a number of a row."""


@functools.cache
def code_hash(modules: tuple[str, ...]) -> str:
    """sha256 (hex) over everything of anydiff that ``modules`` can reach; see the module."""
    found = hashlib.sha256()
    for name in sorted(reachable(modules)):
        found.update(f"{name}\0{_content(name)}".encode())
    return found.hexdigest()


@functools.cache
def package_hash(reference: str) -> str:
    """sha256 (hex) over the modules of the package (or single file) that ``"package.module:attribute"`` lives in."""
    top = reference.partition(":")[0].partition(".")[0]
    path = module_path(top)
    if path is None:
        return "unknown"
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(path.parent).as_posix()}\0{_normal(file)}".encode())
    return found.hexdigest()


def reachable(modules: Iterable[str]) -> set[str]:
    """The modules of the core that ``modules`` (of the core or of plugins) import, directly or not."""
    todo, seen = list(modules), set()
    while todo:
        name = todo.pop()
        if name not in seen and not _without_influence(name) and module_path(name) is not None:
            seen.add(name)
            todo += [found for found in _imports(name) if found not in seen]
    return {name for name in seen if name.partition(".")[0] == CORE}


def plugin_imports(reference: str) -> list[str]:
    """The modules of the package behind ``reference``, as starting points for :func:`reachable`."""
    top = reference.partition(":")[0].partition(".")[0]
    path = module_path(top)
    if path is None or path.name != "__init__.py":
        return [top]
    files = (file.relative_to(path.parent).with_suffix("").parts for file in sorted(path.parent.rglob("*.py")))
    return [".".join([top, *(part for part in parts if part != "__init__")]) for parts in files]


@functools.cache
def module_path(name: str) -> Path | None:
    """The source file of a module; None if there is none. Imports at most its parent packages."""
    loaded = sys.modules.get(name)
    origin = getattr(loaded, "__file__", None)
    if origin is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, AttributeError, ValueError):
            return None
        origin = None if spec is None else spec.origin
    return Path(origin) if origin and origin.endswith(".py") else None


def _without_influence(name: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in WITHOUT_INFLUENCE)


@functools.cache
def _imports(name: str) -> tuple[str, ...]:
    """The modules of anydiff and its plugins that the source of ``name`` imports, anywhere in it."""
    path = module_path(name)
    assert path is not None
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: dict[str, None] = {}
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            for alias in node.names:
                found.update(dict.fromkeys(_definers(source, alias.name)))
    return tuple(each for each in found if each.partition(".")[0].startswith(CORE))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _definers(source: str, name: str) -> Iterator[str]:
    """The module behind ``from source import name``: a submodule, the module itself, or who a package has it from."""
    if not source.startswith(CORE):
        return
    if module_path(f"{source}.{name}") is not None:
        yield f"{source}.{name}"
        return
    path = module_path(source)
    if path is None:
        return
    if path.name == "__init__.py":
        for node in _tree(path).body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        yield from _definers(_absolute(node, source), alias.name)
                        return
    yield source


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _content(name: str) -> str:
    path = module_path(name)
    assert path is not None
    return _normal(path)


@functools.cache
def _normal(path: Path) -> str:
    """The source as a hash of its syntax, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                first.value.value = ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
