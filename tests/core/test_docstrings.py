"""Public docstrings say what something is, not only where that is said."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
EMPTY = re.compile(r"^(See|As) (the|its) [\w-]+\.$|^(The|Its|Each) [\w-]+'s( own)?\.$")
SOURCES = ("core/src", "benchmarks/src", "plugins/*/src")


def empty_docstrings(text: str) -> list[str]:
    """Names of what a file documents by words that say nothing."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [node.name for node in found if EMPTY.match((ast.get_docstring(node) or "").strip())]


def test_no_docstring_only_points_elsewhere():
    files = [path for source in SOURCES for folder in ROOT.glob(source) for path in folder.rglob("*.py")]
    assert len(files) > 300
    assert [f"{path}: {name}" for path in files for name in empty_docstrings(path.read_text(encoding="utf-8"))] == []


def test_an_empty_one_is_found():
    assert empty_docstrings('def f():\n    """See the class."""') == ["f"]
    assert empty_docstrings('class A:\n    """The clock\'s."""') == ["A"]
    assert empty_docstrings('def f():\n    """See the class, which says why: twice the sum."""') == []
