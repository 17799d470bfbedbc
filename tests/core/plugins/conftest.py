"""A folder of fake distributions: what pip would leave in site-packages, written by hand and put on sys.path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from anydiff.plugins import forget, report_to

GOOD = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_solvers(register):
    register("{name}/euler", "a solver", "{module}:euler", order=1)

@hookimpl
def register_recipes(register):
    register("{name}/recipe", "a recipe", "{module}:recipe")

def euler():
    return "euler of {name}"

def recipe():
    return "recipe of {name}"
"""


class Site:
    """One such folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def install(
        self,
        name: str,
        code: str = GOOD,
        requires: str = "anydiff>=0.1,<0.2",
        version: str = "1.0",
        distribution: str = "",
        module: str = "",
    ) -> None:
        """Install a distribution with one entry point; ``{name}`` and ``{module}`` in the code are filled in."""
        distribution = distribution or f"anydiff-{name.replace('_', '-')}"
        module = module or f"zoo_{name.replace('-', '_')}"
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        requirement = f"Requires-Dist: {requires}\n" if requires else ""
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{requirement}"
        )
        info.joinpath("entry_points.txt").write_text(f"[anydiff]\n{name} = {module}\n")
        code = code.replace("{name}", name).replace("{module}", module)
        (self.folder / f"{module}.py").write_text(code)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A fresh folder on sys.path, a state folder of its own, and nothing loaded before or after."""
    made = Site(tmp_path / "site")
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    for variable in ("ANYDIFF_PLUGINS", "ANYDIFF_PLUGINS_DIR", "ANYDIFF_TRACE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(str(made.folder))
    # What is installed for real is left out, so that these tests see the zoo alone.
    installed = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: installed(path=[str(made.folder)]))
    before = set(sys.modules)
    forget()
    report_to(lambda sentence: None)
    yield made
    report_to(None)
    forget()
    for module in set(sys.modules) - before:
        if module.startswith("zoo_"):
            del sys.modules[module]
