"""What counts as a change of code: what can change the number, and nothing else."""

from __future__ import annotations

import importlib
import sys

import pytest

from anydiff.benchmark import code
from anydiff.benchmark.code import code_hash, package_hash, plugin_imports, reachable
from anydiff.benchmark.work import _ROOTS

CACHES = (code.code_hash, code.package_hash, code.module_path, code._imports, code._tree, code._normal)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A core of another name: a package that hands on what its modules define."""
    monkeypatch.setattr(code, "CORE", "toycore")
    monkeypatch.setattr(code, "WITHOUT_INFLUENCE", ("toycore.cli",))
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "toycore/__init__.py": "",
        "toycore/cli.py": "COLOUR = 1\n",
        "toycore/solvers/__init__.py": "from toycore.solvers.plan import Plan\nfrom .other import Other\n",
        "toycore/solvers/plan.py": '"""Plans."""\nfrom toycore import cli\nclass Plan:\n    """A plan."""\n    a = 1\n',
        "toycore/solvers/other.py": "class Other:\n    b = 1\n",
        "toycore/pipeline.py": "def run():\n    from toycore.solvers import Plan\n    return Plan.a\n",
        "toyplugin/__init__.py": "",
        "toyplugin/domain.py": "from toycore.solvers.other import Other\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    importlib.invalidate_caches()

    def change(name, old, new):
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new))
        for cache in CACHES:
            cache.cache_clear()

    for cache in CACHES:
        cache.cache_clear()
    yield change
    for cache in CACHES:
        cache.cache_clear()
    for name in [name for name in sys.modules if name.startswith(("toycore", "toyplugin"))]:
        del sys.modules[name]


def test_imports_are_followed_to_who_defines_them(house):
    assert reachable(["toycore.pipeline"]) == {"toycore.pipeline", "toycore.solvers.plan"}
    assert reachable(plugin_imports("toyplugin.domain:X")) == {"toycore.solvers.other"}


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        ("toycore/solvers/plan.py", "a = 1", "a = 2", True),
        ("toycore/pipeline.py", "return Plan.a", "return Plan.a + 1", True),
        ("toycore/solvers/other.py", "b = 1", "b = 2", False),
        ("toycore/cli.py", "COLOUR = 1", "COLOUR = 2", False),
        ("toycore/solvers/plan.py", "A plan.", "A better plan.", False),
        ("toycore/solvers/plan.py", "    a = 1", "    # a comment\n\n    a  =  1", False),
        ("toyplugin/domain.py", "Other", "Other as O", False),
    ],
)
def test_what_changes_the_hash(house, name, old, new, changed):
    before = code_hash(("toycore.pipeline",))
    house(name, old, new)
    assert (code_hash(("toycore.pipeline",)) != before) == changed


def test_every_module_of_a_plugin_counts(house):
    before = package_hash("toyplugin.domain:X")
    house("toyplugin/__init__.py", "", "A = 1\n")
    assert package_hash("toyplugin.domain:X") != before


def test_the_real_core():
    """The rooms a number passes through are there, and those it does not are not."""
    found = reachable(_ROOTS)
    for needed in (
        "solvers.executor",
        "solvers.program",
        "paths.base",
        "states.streams",
        "denoisers.network",
        "pipeline.build",
    ):
        assert f"anydiff.{needed}" in found, needed
    for foreign in (
        "cli.main",
        "benchmark.store",
        "benchmark.engine",
        "benchmark.pool",
        "solvers.pndm",
        "training.fit",
        "testing.kit",
    ):
        assert f"anydiff.{foreign}" not in found, foreign
    assert "anydiff.solvers.pndm" in reachable(["anydiff.solvers.pndm"])
