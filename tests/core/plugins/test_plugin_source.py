"""The digest of a distribution: every file of it that can change a number, and nothing that comes and goes."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from pathlib import Path

import pytest

import anydiff
from anydiff.errors import AnydiffError
from anydiff.plugins import forget, source
from anydiff.plugins.source import WITHOUT_INFLUENCE, source_of, transforming_code
from anydiff.registry import CORE, registry

PLUGIN = """\
from anydiff.hookspecs import hookimpl


@hookimpl
def register_metrics(register):
    register("third/scaled", "scaled", "anydiff_third.metrics:Scaled")
"""
RECORD = """\
anydiff_third/__init__.py,,
anydiff_third/metrics.py,,
anydiff_third/table.json,,
third_helpers/__init__.py,,
third_alone.py,,
../../../share/third/scale.txt,,
../../../bin/third,,
anydiff_third/__pycache__/metrics.cpython-311.pyc,,
anydiff_third-1.0.dist-info/METADATA,,
"""
METADATA = """\
Metadata-Version: 2.1
Name: anydiff_Third
Version: 1.0
Requires-Dist: anydiff>=0.1
Requires-Dist: PyYAML (>=6) ; python_version > "3"
Requires-Dist: typer[all]; extra == "more"
Requires-Dist: absent-library
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(params=["record", "none", "editable"])
def third(request, tmp_path, monkeypatch):
    """A third package, installed with a record, as a bare folder, and in place; its folder and how it is installed."""
    site = tmp_path / "lib" / "python" / "site"
    source_folder = tmp_path / "src" if request.param == "editable" else site
    write(
        source_folder,
        {
            "anydiff_third/__init__.py": PLUGIN,
            "anydiff_third/metrics.py": "class Scaled: ...\n",
            "anydiff_third/table.json": '{"factor": 1}',
            "anydiff_third/deep/er/notes.txt": "a",
            "third_helpers/__init__.py": "A = 1\n",
            "third_alone.py": "A = 1\n",
        },
    )
    write(tmp_path, {"share/third/scale.txt": "1", "bin/third": "#!python"})
    info = "anydiff_third-1.0.dist-info"
    write(site, {f"{info}/METADATA": METADATA, f"{info}/entry_points.txt": "[anydiff]\nthird = anydiff_third\n"})
    if request.param == "record":
        write(site, {f"{info}/RECORD": RECORD})
    if request.param == "editable":
        write(site, {f"{info}/RECORD": "_third.pth,,\n", "_third.pth": f"{source_folder}\n"})
        monkeypatch.syspath_prepend(str(source_folder))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "third")
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ANYDIFF_PLUGINS_DIR", raising=False)
    forget()
    yield source_folder, request.param
    forget()
    for name in [name for name in sys.modules if name.startswith(("anydiff_third", "third_"))]:
        del sys.modules[name]


def code() -> dict[str, str]:
    return dict(source_of([registry().get("metrics", "third/scaled")]).code)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("anydiff_third/metrics.py", True),
        ("anydiff_third/table.json", True),
        ("anydiff_third/deep/er/notes.txt", True),
        ("anydiff_third/new.bin", True),
        ("third_helpers/__init__.py", "record editable"),
        ("third_alone.py", "record"),
        ("../../../share/third/scale.txt", "record"),
        ("../../../bin/third", False),
        ("anydiff_third/__pycache__/metrics.cpython-311.pyc", False),
        ("anydiff_third/.cache/x", False),
        ("anydiff_third/.table.json.abc.part", False),
    ],
)
def test_what_changes_the_digest_of_a_distribution(third, name, counts):
    folder, how = third
    before = code()
    assert before.keys() == {"anydiff", "anydiff-third"}
    assert code() == before
    path = folder / name
    if how == "record" or not name.startswith(".."):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + "# 2\n" if path.exists() else "2")
        changed = {key for key, value in code().items() if value != before[key]}
        expected = how in counts.split() if isinstance(counts, str) else counts
        assert changed == ({"anydiff-third"} if expected else set())


def test_libraries_are_those_that_are_declared_and_installed(third):
    found = source_of(plugins=["third"], core=False)
    assert found.code.keys() == {"anydiff-third"}
    assert found.libraries.keys() == {"torch", "numpy", "pyyaml", "typer"}
    assert "pluggy" in source_of().libraries, "those of the core stand beside the core"


def test_a_change_that_keeps_size_and_time_is_seen(third, monkeypatch):
    monkeypatch.setattr(source, "_RACY_SECONDS", -1.0)  # as if nothing had changed for a while
    path = third[0] / "anydiff_third" / "table.json"
    before, status = code(), path.stat()
    path.write_text('{"factor": 2}')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert code() != before


def test_files_are_read_once(third, monkeypatch):
    read = []

    def counted(file, name):
        read.append(file.name)
        return hashlib.new(name, file.read())

    monkeypatch.setattr(source, "_RACY_SECONDS", -1.0)
    monkeypatch.setattr(source, "_known", {})
    monkeypatch.setattr(source.hashlib, "file_digest", counted)
    code()
    first = len(read)
    assert first > 100
    code()
    assert len(read) == first


# Single files ---------------------------------------------------------------------------------------------------------

SINGLE = "from anydiff.hookspecs import hookimpl\n\n\n@hookimpl\ndef samples_ready(states):\n    return states\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write(tmp_path / "own", {"single.py": SINGLE, "factor.txt": "1", "data/more.txt": "1"})
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "single")
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    forget()
    yield tmp_path / "own"
    forget()
    for name in ("single", "other"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("single.py", True),
        ("factor.txt", True),
        ("data/more.txt", True),
        ("_helper.py", True),
        ("other.py", False),
        ("report/results.sqlite", False),
        ("run/model.safetensors", False),
        (".git/index", False),
        ("__pycache__/single.cpython-311.pyc", False),
    ],
)
def test_a_single_file_counts_with_what_lies_beside_it(folder, name, counts):
    before = transforming_code("samples_ready")
    assert before.keys() == {"single.py"}
    write(folder, {name: (folder / name).read_text() + "# 2" if (folder / name).exists() else SINGLE})
    assert (transforming_code("samples_ready") != before) == counts
    assert transforming_code("transform_batch") == {}


def test_a_folder_that_is_no_plugins_own_is_refused(folder, monkeypatch):
    monkeypatch.setattr(source, "LARGEST_FOLDER", 3)
    (folder / "x").touch()
    with pytest.raises(AnydiffError, match=r"plugin 'single.py' holds more than 3 files.*a folder of its own"):
        transforming_code("samples_ready")


def test_code_that_cannot_be_found_is_refused():
    with pytest.raises(AnydiffError, match=r"the files of module .nowhere\.at. cannot be found"):
        source_of(references=["nowhere.at:all"])


# The core -------------------------------------------------------------------------------------------------------------


def test_nothing_of_the_core_imports_the_rooms_that_do_not_count():
    root = Path(anydiff.__file__).parent
    rooms = [f"anydiff.{room.replace('/', '.')}" for room in WITHOUT_INFLUENCE]
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        if name == "__main__.py" or any(name.startswith(f"{room}/") for room in WITHOUT_INFLUENCE):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                found = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            assert not [each for each in found for room in rooms if each == room or each.startswith(f"{room}.")], name


def test_the_files_of_the_core():
    names = set(source._files(source._CORE, {CORE: WITHOUT_INFLUENCE}))
    assert {"anydiff/solvers/executor.py", "anydiff/data/__init__.py", "anydiff/py.typed"} <= names
    assert not [name for name in names if name.startswith(("anydiff/cli/", "anydiff/testing/"))]


OPERATION = """\
from anydiff import hookimpl


@hookimpl
def register_operations(register):
    register("far/clip", "clips", "far:clip")


def clip(x, *, t):
    return x
"""
SOLVER = """\
from anydiff import hookimpl


@hookimpl
def register_solvers(register):
    register("near", "a solver", "near:Near")


class Near:
    def build(self, program, nodes):
        {use}
"""


@pytest.mark.parametrize(
    ("use", "counts"),
    [
        ('return program.apply("far/clip", program.start(), node=nodes[0])', True),
        ('return registry().build("operations", f"far/{name}")', True),
        ("from far import clip", True),
        ('return importlib.import_module("far:clip")', True),
        ("return program.start()  # as far as it goes", False),
    ],
)
def test_a_plugin_that_the_code_of_another_speaks_of_counts(use, counts, tmp_path, monkeypatch):
    folder = tmp_path / "plugins"
    write(folder, {"far.py": OPERATION, "near.py": SOLVER.replace("{use}", use)})
    monkeypatch.setenv("ANYDIFF_PLUGINS", "near,far")
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(folder))
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    forget()
    try:
        near, far = registry().get("solvers", "near"), registry().get("operations", "far/clip")
        assert source_of([near]).code.keys() == {"anydiff", "near.py"} | ({"far.py"} if counts else set())
        assert source_of([far]).code.keys() == {"anydiff", "far.py"}
    finally:
        forget()
        for name in ("near", "far"):
            sys.modules.pop(name, None)
