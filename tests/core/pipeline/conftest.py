"""The two-moons example as the domain under test, and one short training of it."""

from __future__ import annotations

import pytest
from found import EXAMPLES, found

from anydiff.pipeline import train
from anydiff.recipes import load_recipe


@pytest.fixture(autouse=True)
def _examples(tmp_path_factory):
    with found("two_moons", EXAMPLES, tmp_path_factory):
        yield


@pytest.fixture
def recipe():
    return load_recipe("two_moons/small", ["training.steps=30", "training.batch_size=64"])


@pytest.fixture
def run(recipe, tmp_path):
    train(recipe, tmp_path / "run")
    return tmp_path / "run"
