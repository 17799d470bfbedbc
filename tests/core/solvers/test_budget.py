"""The solvers stay pages of coefficients: lines of code, without docstrings, comments and blank lines."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import anydiff.solvers

FOLDER = Path(anydiff.solvers.__file__).parent
#: What solvers stand on, and is no solver: the plan, its compilers and executor, the rules and operations that it runs,
#: the moves that inverse methods are made of, starts, and the face of sampling.
MACHINERY = (
    "__init__", "base", "categorical", "coupled",
    "executor", "forms", "mixed", "next_row", "operations", "plan", "product",
    "program", "sample", "snapshots", "start", "transitions", "walk",
)  # fmt: skip
#: No pages of coefficients: a sampler that is also an encoder and a likelihood.
MORE_THAN_A_SOLVER = {"AdaptiveODE": 190}
NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def test_all_solvers_together() -> None:
    counts = {
        path.stem: len(code_lines(path.read_text(encoding="utf-8")))
        for path in FOLDER.glob("*.py")
        if path.stem not in MACHINERY
    }
    assert sum(counts.values()) <= 1550, counts


def test_each_solver() -> None:
    found = 0
    for path in FOLDER.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        lines = code_lines(source)
        for node in ast.parse(source).body:
            if path.stem in MACHINERY or not isinstance(node, ast.ClassDef):
                continue
            count = sum(node.lineno <= line <= (node.end_lineno or 0) for line in lines)
            assert count <= MORE_THAN_A_SOLVER.get(node.name, 80), f"{node.name} has {count} lines"
            found += 1
    assert found > 12
