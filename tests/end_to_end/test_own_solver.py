"""The solver of a stranger, one file of 35 lines and not installed: in every domain, and in the benchmark's report."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from anydiff.networks import Autoencoder
from anydiff.paths.base import GaussianPath
from anydiff.pipeline import load, train
from anydiff.plugins import forget, use_folder
from anydiff.recipes import load_recipe
from anydiff.registry import registry

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAINED = """
import sys
from pathlib import Path
from anydiff import hookimpl

sys.path.insert(0, str(Path(__file__).parent / "weights"))  # where the package that holds the weights lies

@hookimpl
def register_recipes(register):
    register("trained/moons", "two moons, trained", "trained:moons", weights="moons_weights:m.safetensors")

@hookimpl
def register_tasks(register):
    register("trained/moons@1", "two moons", "trained:task")

def task():
    from anydiff.tasks import Task
    return Task(name="trained/moons", recipe="trained/moons", samples=200)

def moons():
    from anydiff.recipes import load_recipe
    return {**load_recipe("two_moons/small").model_dump(mode="json"), "name": "trained/moons"}
"""
SUITE = """
name: mine
methods: [ddim, kutta_solver]
nfe: [6, 12]
seeds: [0, 1, 2]
samples: 200
"""


@pytest.fixture
def plugins(home, monkeypatch, tmp_path):
    """The examples, a folder for more, and every installed domain."""
    more = tmp_path / "plugins"
    more.mkdir()
    monkeypatch.delenv("ANYDIFF_PLUGINS", raising=False)
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(more))
    use_folder(EXAMPLES)
    forget()
    yield more
    monkeypatch.undo()
    forget()


def test_it_stands_in_the_benchmark_report_beside_the_cores_own(plugins, tmp_path, warm):
    package = plugins / "weights" / "moons_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (plugins / "trained.py").write_text(TRAINED)
    forget()
    train(load_recipe("trained/moons", ["training.steps=150"]), tmp_path / "run").save(package / "m.safetensors")
    (tmp_path / "mine.yaml").write_text(SUITE)
    command = ["--plugins-dir", str(EXAMPLES), "bench"]
    command += [
        "--suite",
        "mine.yaml",
        "--tasks",
        "trained/moons",
        "--out",
        "report",
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ANYDIFF_PLUGINS": "benchmarks,two_moons,kutta_solver,trained"}
    lock = ["--plugins-dir", str(EXAMPLES), "bench", "lock", "trained/moons@1"]
    assert warm(*lock, cwd=tmp_path, env=environment).returncode == 0
    done = warm(*command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "report" / "rows.jsonl").read_text().splitlines()]
    for method in ("ddim", "kutta_solver"):
        own = [row for row in rows if row["method"] == method]
        assert {(row["nfe"], row["seed"], row["status"]) for row in own} == {
            (nfe, seed, "done") for nfe in (6, 12) for seed in (0, 1, 2)
        }
        assert all("two_moons/mean-distance" in row["metrics"] for row in own)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "kutta_solver" in page
    assert "ddim" in page


def test_it_samples_every_installed_recipe_that_has_weights(plugins):
    names = [entry.name for entry in registry().entries("recipes") if entry.metadata.get("weights")]
    if not names:
        pytest.skip("no domain with bundled weights is installed")
    for name in names:
        pipeline = load(name)
        if isinstance(pipeline.denoiser.network, Autoencoder):
            continue  # it draws nothing; the recipe that has it as its latent space does
        if not isinstance(pipeline.denoiser.path, GaussianPath):
            continue  # classes, which no Runge-Kutta method moves
        path = pipeline.denoiser.gaussian_path
        if bool(torch.as_tensor(path.sigma(path.t_end)).eq(0).any()):
            continue  # the path ends at clean data, where Kutta's last stage would divide by the noise level
        plan = pipeline.plan(3, "kutta_solver")
        assert plan.nfe == 3
        states = pipeline.sample_set(2, solver=plan, condition=_asked(pipeline.domain)).states
        assert torch.isfinite(states).all(), name


def _asked(domain):
    """Any numbers of the right shape: finite samples are all that is looked at."""
    found = {}
    for name, kind in domain.conditions.items():
        shape = getattr(kind, "shape", None) or (getattr(kind, "size", 0),)
        found[name] = torch.zeros(2, dtype=torch.long) if shape == (0,) else torch.rand(2, *shape) + 0.5
    return found
