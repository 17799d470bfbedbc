"""Files of at most 400 lines, function bodies of at most 60, at most 8 parameters: what grows beyond is two things."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from anydiff.registry import KINDS, registry

ROOT = Path(__file__).parents[2]
FILE, BODY, PARAMETERS = 400, 60, 8
SOURCES = ("core/src", "benchmarks/src", "plugins/*/src")
PIPELINE = 250
"""Lines of what a user holds: it says what there is to do, and other files do it."""


parsed = functools.cache(ast.parse)


def too_long(text: str) -> Iterator[str]:
    """What in a file is over the bounds; a docstring does not count as body."""
    if text.count("\n") > FILE:
        yield f"{text.count(chr(10))} lines"
    for node in ast.walk(parsed(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if lines > BODY:
                yield f"{node.name}: {lines} lines"


def test_files_and_functions_are_short():
    files = [path for source in SOURCES for path in ROOT.glob(f"{source}/**/*.py")]
    assert len(files) > 300
    assert [f"{path}: {what}" for path in files for what in too_long(path.read_text(encoding="utf-8"))] == []


def test_what_is_too_long_is_found():
    assert list(too_long("x = 1\n" * 401)) == ["401 lines"]
    assert list(too_long('def f():\n    """Long."""\n' + "    x = 1\n" * 61)) == ["f: 61 lines"]
    assert list(too_long('def f():\n    """Short."""\n' + "    x = 1\n" * 60)) == []


def test_the_pipeline_hands_on_what_it_is_asked():
    text = (ROOT / "core/src/anydiff/pipeline/pipeline.py").read_text(encoding="utf-8")
    assert text.count("\n") <= PIPELINE


# Parameters -----------------------------------------------------------------------------------------------------------
# Read, not imported: that takes a second instead of twenty.


def functions(text: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """(dotted name, definition) of every function of a file."""

    def walk(node: ast.AST, within: tuple[str, ...]) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (ast.FunctionDef, ast.ClassDef))
            inner = (*within, child.name) if named else within
            if isinstance(child, ast.FunctionDef):
                yield ".".join(inner), child
            yield from walk(child, inner)

    return walk(parsed(text), ())


def parameters(function: ast.FunctionDef) -> int:
    """How many there are; ``self`` and ``cls`` do not count, ``*rows`` and ``**options`` do."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return sum(name not in ("self", "cls") for name in names) + sum(x is not None for x in (given.vararg, given.kwarg))


def bases(texts: Iterable[str]) -> dict[str, set[str]]:
    """Name of each class -> the names of its bases."""
    classes = (node for text in texts for node in ast.walk(parsed(text)) if isinstance(node, ast.ClassDef))
    return {each.name: {ast.unparse(base).rpartition(".")[2] for base in each.bases} for each in classes}


def with_bases(name: str, known: dict[str, set[str]]) -> set[str]:
    found, todo = set(), {name}
    while todo:
        found |= todo
        todo = {base for each in todo for base in known.get(each, ())} - found
    return found


def foreign(text: str) -> set[str]:
    """Names that a file imports from libraries other than torch and Python's own."""
    ours = ("anydiff", "torch", "numpy", *sys.stdlib_module_names)
    imports = (node for node in ast.walk(parsed(text)) if isinstance(node, ast.ImportFrom))
    return {each.name for node in imports if not (node.module or "").startswith(ours) for each in node.names}


def too_many(folder: Path, registered: set[str]) -> Iterator[str]:
    """Functions below ``folder``, a distribution, with too many parameters that are no names which users write.

    Users write the options of commands and of what is ``registered`` by its name: of the functions and of the
    constructors, own or inherited. A constructor in the protocol of another library is called by that library's users.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("**/*.py"))}
    known = bases(texts.values())
    exempt = set().union(*(with_bases(name, known) for name in registered))
    for path, text in texts.items():
        for name, function in functions(text):
            owner, _, last = name.rpartition(".")
            made = owner if last == "__init__" else name
            if parameters(function) <= PARAMETERS or made in exempt:
                continue
            if any(re.match(r"\w*app\.(command|callback)\b", ast.unparse(each)) for each in function.decorator_list):
                continue
            if not (last == "__init__" and with_bases(owner, known) & foreign(text)):
                yield f"{path}: {name} has {parameters(function)} parameters"


def test_no_function_has_more_parameters_than_a_reader_holds():
    references = [entry.reference for kind in KINDS for entry in registry().entries(kind)]
    assert len(references) > 200
    found = []
    for folder in (folder for source in SOURCES for folder in ROOT.glob(f"{source}/anydiff*")):
        own = [each.partition(":")[2] for each in references if each.partition(":")[0].split(".")[0] == folder.name]
        found += too_many(folder, set(own))
    assert found == []


def test_what_has_too_many_parameters_is_found(tmp_path):
    nine = ", ".join("abcdefgh") + ", **i"
    (tmp_path / "one.py").write_text(f"""
from gluon import Predictor
class Base:
    def __init__(self, {nine}): ...
    def method(self, {nine}): ...
class Part(Base): ...
class Alone:
    def __init__(self, {nine}): ...
class Theirs(Predictor):
    def __init__(self, {nine}): ...
@app.command()
def command({nine}): ...
def made({nine}): ...
def outer(a, b, /, c, *d, e):
    def inner({nine}): ...
""")
    found = [each.partition(": ")[2].partition(" ")[0] for each in too_many(tmp_path, {"Part", "made"})]
    assert found == ["Base.method", "Alone.__init__", "outer.inner"]
