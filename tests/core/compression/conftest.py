"""Small models whose weights have all moved, so that every layer matters."""

from __future__ import annotations

import pytest
import torch

from anydiff.pipeline import Pipeline
from anydiff.recipes import load_recipe
from anydiff.testing.networks import awake

SMALL = {
    "images/fashion": [
        "network.options.channels=8",
        "sampling.nfe=4",
        "sampling.guidance=[{name: classifier-free, options: {scale: 1.5}}]",
    ],
    "trajectories/maze": ["sampling.nfe=3"],
}


def made(name: str, changes: list[str] | None = None) -> Pipeline:
    torch.manual_seed(0)
    pipeline = Pipeline.untrained(load_recipe(name, SMALL[name] + (changes or [])))
    awake(pipeline.denoiser.network)
    return pipeline


@pytest.fixture(scope="session")
def pictures():
    return made("images/fashion")


@pytest.fixture
def small():
    return made
