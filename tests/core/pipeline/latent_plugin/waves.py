"""A plugin for the tests of latent diffusion: sine waves of two numbers each, sampled at 16 places."""

import numpy as np
import torch
from PIL import Image

from anydiff.data.dataset import ArrayDataset
from anydiff.domains import Domain
from anydiff.hookspecs import hookimpl
from anydiff.metrics import Metric, MetricCard
from anydiff.states import StateSpec


class Waves(Domain):
    name = "waves"
    spec = StateSpec.single((1, 16))

    def encode(self, objects):
        return torch.from_numpy(np.stack(objects)).float()[:, None]

    def decode(self, states, condition=None):
        return list(states[:, 0].numpy())

    def read(self, path):
        return list(np.load(path))

    def write(self, objects, path):
        np.save(path, np.stack(objects))

    def draw(self, objects, path, titles=None):
        Image.fromarray(np.clip(np.stack(objects) * 60 + 128, 0, 255).astype(np.uint8)).save(path)


class Data(ArrayDataset):
    name = "waves/data"
    domain = Waves()

    def __init__(self, split="train"):
        generator = torch.Generator().manual_seed(int(split == "test"))
        amplitude = torch.randn(256, 2, 1, generator=generator)
        angle = torch.arange(16) * (2 * torch.pi / 16)
        super().__init__((amplitude * torch.stack([angle.sin(), angle.cos()])).sum(1, keepdim=True))


class Energy(Metric):
    """Mean square of a sample; it looks at waves, whatever was diffused."""

    card = MetricCard("waves/energy", "lower", "1", (0.0, float("inf")), 1.0, 1)

    def compute(self, samples, reference):
        self.check(samples, reference)
        return float(samples.states.square().mean())


_COMMON = {"domain": "waves", "dataset": "waves/data", "metrics": ["waves/energy"]}


def codes():
    return {
        **_COMMON,
        "name": "waves/codes",
        "network": {"name": "autoencoder", "options": {"channels": 16, "latent_channels": 2, "factor": 4}},
        "parametrization": "data",
        "objective": {"name": "reconstruction", "options": {"noise": 0.05, "penalty": 0.001}},
        "training": {"steps": 60, "batch_size": 16, "learning_rate": 0.01, "ema_decay": 0.9},
    }


def diffusion():
    return {
        **_COMMON,
        "name": "waves/diffusion",
        "network": {"name": "unet", "options": {"channels": 8, "multipliers": [1], "blocks": 1}},
        "training": {"steps": 3, "batch_size": 8},
        "sampling": {"nfe": 4},
    }


@hookimpl
def register_domains(register):
    register("waves", "waves", "waves:Waves")


@hookimpl
def register_datasets(register):
    register("waves/data", "waves", "waves:Data")


@hookimpl
def register_metrics(register):
    register("waves/energy", "energy", "waves:Energy")


@hookimpl
def register_recipes(register):
    register("waves/codes", "an autoencoder of waves", "waves:codes")
    register("waves/diffusion", "waves", "waves:diffusion")
