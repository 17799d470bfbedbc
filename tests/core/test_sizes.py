"""Files of at most 400 lines and function bodies of at most 60: what grows beyond is two things."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE, BODY = 400, 60


def too_long(text: str) -> Iterator[str]:
    """What in a file is over the bounds; a docstring does not count as body."""
    if text.count("\n") > FILE:
        yield f"{text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if lines > BODY:
                yield f"{node.name}: {lines} lines"


def test_files_and_functions_are_short():
    sources = ("core/src", "benchmarks/src", "plugins/*/src")
    files = [path for source in sources for path in ROOT.glob(f"{source}/**/*.py")]
    assert len(files) > 300
    assert [f"{path}: {what}" for path in files for what in too_long(path.read_text(encoding="utf-8"))] == []


def test_what_is_too_long_is_found():
    assert list(too_long("x = 1\n" * 401)) == ["401 lines"]
    assert list(too_long('def f():\n    """Long."""\n' + "    x = 1\n" * 61)) == ["f: 61 lines"]
    assert list(too_long('def f():\n    """Short."""\n' + "    x = 1\n" * 60)) == []
