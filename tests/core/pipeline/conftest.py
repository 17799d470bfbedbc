"""The two-moons example as the domain under test, and one short training of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from anydiff.pipeline import train
from anydiff.plugins import forget, use_folder
from anydiff.recipes import load_recipe

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(autouse=True)
def _examples(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "two_moons")
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
    use_folder(EXAMPLES)
    forget()
    yield
    monkeypatch.undo()
    forget()


@pytest.fixture
def recipe():
    return load_recipe("two_moons/small", ["training.steps=30", "training.batch_size=64"])


@pytest.fixture
def run(recipe, tmp_path):
    train(recipe, tmp_path / "run")
    return tmp_path / "run"
