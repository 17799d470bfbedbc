"""Wheels of all distributions: built, passed by twine, each with every file of its package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from alone import ROOT
from hatchling.builders.wheel import WheelBuilder

PROJECTS = sorted(path.parent for path in (*ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")))


@pytest.mark.slow
def test_every_distribution_has_a_whole_wheel_that_twine_passes(tmp_path):
    assert {"core", "benchmarks", "adapters", "images"} <= {project.name for project in PROJECTS}
    wheels = []
    for project in PROJECTS:
        wheels.append(Path(next(WheelBuilder(str(project)).build(directory=str(tmp_path), versions=["standard"]))))
        held = set(zipfile.ZipFile(wheels[-1]).namelist())
        package = project / "src"
        files = {
            path.relative_to(package).as_posix()
            for path in package.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
        }
        assert files <= held, (project.name, sorted(files - held)[:3])
        assert any(name.endswith("licenses/LICENSE") for name in held), project.name
    pytest.importorskip("twine", reason="twine is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, wheels)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == len(wheels)
