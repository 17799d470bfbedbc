"""Installs the toy domain into a folder, as pip would: package, metadata and weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SUITE = """\
name: tiny
help: A suite <script>alert('suite')</script> of a test.
methods:
  - ddim
  - edm
  - {solver: dpm-solver++-2m, label: "<script>alert('label')</script>"}
nfe: [3, 6]
seeds: [0, 1, 2]
samples: 100
batch_size: 64
gallery: 20
baselines: [real, resample, gaussian, gaussian-diagonal]
"""
_WEIGHTS = """
import sys
from anydiff_toy.parts import points, touchy
from anydiff.pipeline import Pipeline
for name, recipe in (("points", points()), ("cut", points()), ("touchy", touchy())):
    Pipeline.untrained(recipe).save(f"{sys.argv[1]}/{name}.safetensors", overwrite=True)
from anydiff.tasks.lock import write_lock
for name in ("toy/points@1", "toy/points@2", "toy/cut@1", "toy/touchy@1", "toy/large@1", "toy/members@1", "toy/loop@1"):
    write_lock(name)
cut = open(f"{sys.argv[1]}/cut.safetensors", "rb+")
cut.truncate(100)
"""


def install(folder: Path, first: Path) -> dict[str, str]:
    """Install below ``folder`` and return the environment in which a process finds it.

    Weights and lock are made where nothing is installed yet in ``first``, and are copied from there.
    """
    if first != folder:
        if not first.exists():
            install(first, first)
        shutil.copytree(first, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("home"))
        return found_in(folder)
    package = folder / "anydiff_toy"
    shutil.copytree(HERE / "toy" / "anydiff_toy", package, ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "anydiff_toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: anydiff-toy\nVersion: 1.0\nRequires-Dist: anydiff>=0.1\n"
    )
    (info / "entry_points.txt").write_text("[anydiff]\ntoy = anydiff_toy\n")
    environment = found_in(folder)
    subprocess.run([sys.executable, "-c", _WEIGHTS, str(package)], env=environment, check=True, timeout=900)
    (folder / "tiny.yaml").write_text(SUITE)
    return environment


def found_in(folder: Path) -> dict[str, str]:
    """The environment in which a process finds what is installed in ``folder``."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
        "ANYDIFF_HOME": str(folder / "home"),
        "ANYDIFF_PLUGINS": "benchmarks,toy",
        "OMP_NUM_THREADS": "1",
    }
