"""A tiny training that every test here shares; as a script, ``python toy.py FOLDER [key=value ...]``."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.networks import MLP
from anydiff.objectives import Denoising
from anydiff.paths import VPLinear
from anydiff.states import ClassCondition, Conditioning, StateSpec
from anydiff.training import Hardware, ObjectiveMethod, RunFolder, TrainingSettings, fit


class Rings:
    """Points on two circles with their class; random access."""

    name = "rings"
    spec = StateSpec.single((2,))

    def __init__(self, size: int = 100) -> None:
        generator = torch.Generator().manual_seed(0)
        angle = torch.rand(size, generator=generator) * 6.28
        self.label = torch.arange(size) % 2
        self.points = torch.stack([angle.cos(), angle.sin()], 1) * (1 + self.label[:, None])
        self.conditions = {"label": ClassCondition(2)}
        self.hash = hashlib.sha256(self.points.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.points)

    def batch(self, indices):
        return self.points[indices], Conditioning({"label": self.label[indices]})


SETTINGS = {
    "steps": 20,
    "batch_size": 8,
    "checkpoint_every": 10,
    "log_every": 5,
    "condition_dropout": 0.3,
    "warmup_steps": 5,
    "weight_decay": 0.01,
    "ema_decay": 0.9,
    "seed": 3,
}


def denoiser(dropout: float = 0.1) -> NetworkDenoiser:
    torch.manual_seed(0)
    network = MLP(Rings.spec, {"label": ClassCondition(2)}, width=16, blocks=2, dropout=dropout)
    return NetworkDenoiser(network, VPLinear())


def train(folder, *, resume=False, dropout=0.1, hardware=None, options=None, dataset=None, **settings):
    """Train the toy in ``folder``; returns its run."""
    merged = TrainingSettings.parse({**SETTINGS, **settings}, "the test")
    run = RunFolder.create(folder, merged.model_dump(mode="json"), {"recipe": "{}"}, resume=resume)
    fit(
        ObjectiveMethod(denoiser(dropout), Denoising()),
        Rings() if dataset is None else dataset,
        merged,
        run,
        resume=resume,
        hardware=hardware or Hardware(),
        **(options or {}),
    )
    return run


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = dict(pair.split("=") for pair in sys.argv[2:])
    settings = {key: json.loads(value) for key, value in arguments.items()}
    train(
        Path(sys.argv[1]),
        dropout=0.0,
        hardware=Hardware(settings.pop("devices", 1), "cpu"),
        **settings,
    )
