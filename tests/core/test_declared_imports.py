"""What a distribution imports, it declares: a module that another plugin happens to bring is missing on its own."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT / "core", ROOT / "benchmarks", *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
OWNERS = packages_distributions()


CORE = ROOT / "core"
BROUGHT = {"pillow", "h5py", "pytest"}
"""What readers and kit of the core use where whoever calls them has it; each is declared by those who call."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;@]", name, maxsplit=1)[0]).lower()


def declared(project: Path) -> set[str]:
    """Names of the distributions that a project requires, with those of its extras, and with the extras of those."""
    about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = about.get("optional-dependencies", {}).values()
    every = [*about.get("dependencies", []), *(each for extra in extras for each in extra)]
    return {plain(each) for each in every} | {plain(word) for each in every for word in re.findall(r"\[(.+?)\]", each)}


def known(project: Path) -> set[str]:
    """What there is beside a project's own code: what it declares, and what the core does, which it requires."""
    found = declared(project)
    if project == CORE:
        return found | BROUGHT
    if project.name == "benchmarks":  # a claim about a plugin's method runs where that plugin is
        found |= set().union(*map(declared, ROOT.glob("plugins/*")))
    return found | (declared(CORE) if "anydiff" in found else set())


def modules(text: str) -> set[str]:
    """First parts of all absolute imports, be they inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def undeclared(project: Path) -> dict[str, list[str]]:
    there = known(project)
    found: dict[str, list[str]] = {}
    for path in sorted((project / "src").rglob("*.py")):
        for module in modules(path.read_text(encoding="utf-8")) - sys.stdlib_module_names:
            owners = {plain(owner) for owner in OWNERS.get(module, [])}
            if not module.startswith("anydiff") and owners and not owners & there:
                found.setdefault(module, []).append(path.name)
    return found


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_what_is_imported_is_declared(project):
    assert undeclared(project) == {}


def test_a_module_that_nobody_declared_is_found(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["torch>=2"]\n')
    (tmp_path / "src" / "a.py").write_text("import torch\n\ndef f():\n    from scipy.stats import t\n")
    assert undeclared(tmp_path) == {"scipy": ["a.py"]}
