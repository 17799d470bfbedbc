"""Types are checked in every distribution, by the same strict rules."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def distributions() -> dict[str, Path]:
    """Name of each distribution's package -> its folder."""
    folders = [ROOT / "core", ROOT / "benchmarks", *sorted((ROOT / "plugins").iterdir())]
    found = [package for folder in folders for package in (folder / "src").glob("anydiff*") if package.is_dir()]
    return {package.name: package for package in found if not package.name.endswith(".egg-info")}


def test_mypy_reads_every_distribution():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"]
    assert sorted(settings["packages"]) == sorted(distributions())


def test_every_distribution_says_that_it_is_typed():
    assert [name for name, package in distributions().items() if not (package / "py.typed").is_file()] == []
