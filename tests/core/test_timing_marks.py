"""A test that looks at a clock is marked ``timing``: it runs apart, alone and last, as a busy machine makes it fail."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
CLOCKS = ("perf_counter", "process_time", "timeit", "overhead.measure")


def unmarked(text: str) -> list[str]:
    """Names of the tests in a file that read a clock and are not marked."""
    tests = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"]
    return [
        test.name
        for test in tests
        if any(clock in ast.unparse(test.body) for clock in CLOCKS)
        and not any("mark.timing" in ast.unparse(mark) for mark in test.decorator_list)
    ]


def test_whoever_reads_a_clock_is_marked():
    files = [path for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    assert len(files) > 100
    assert [f"{path.name}: {name}" for path in files for name in unmarked(path.read_text(encoding="utf-8"))] == []


def test_an_unmarked_test_is_found():
    body = "def test_quick():\n    began = time.perf_counter()\n    assert time.perf_counter() - began < 1\n"
    assert unmarked(body) == ["test_quick"]
    assert unmarked("@pytest.mark.timing\n" + body) == []
