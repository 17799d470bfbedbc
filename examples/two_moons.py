"""A whole domain in one file: 2-D points on two moons. Try `anydiff --plugins-dir examples train two_moons/small`."""

import numpy as np
import torch

from anydiff import hookimpl
from anydiff.networks import ClassCondition
from anydiff.pipeline import Dataset, Domain, Metric, MetricCard
from anydiff.states import StateSpec


class Points(Domain):
    name, spec, conditions = "two_moons", StateSpec.single((2,), name="point"), {"label": ClassCondition(2)}

    def encode(self, objects):
        return torch.as_tensor(np.asarray(objects), dtype=torch.float32)

    def decode(self, states, condition=None):
        return list(states.double().numpy())

    def read(self, path):
        return list(np.loadtxt(path, delimiter=",", ndmin=2))

    def write(self, objects, path):
        np.savetxt(path, np.asarray(objects), delimiter=",")

    def draw(self, objects, path, titles=None):
        from matplotlib.figure import Figure

        axes = Figure(figsize=(4, 4)).subplots()
        axes.scatter(*np.asarray(objects).T, s=4)
        axes.figure.savefig(path)


class Moons(Dataset):
    name, domain = "two_moons/points", Points()

    def __init__(self, split="train", count=2000):
        angle, noise = np.random.default_rng(split == "test").random((2, count)) * np.pi, 0.1
        self.labels = torch.arange(count) % 2
        sign = 1 - 2 * self.labels.numpy()
        moons = np.stack([np.cos(angle[0]) * sign + (sign < 0), np.sin(angle[0]) * sign + (sign < 0) * 0.5], 1)
        jitter = np.random.default_rng(2 + (split == "test")).normal(size=(count, 2))
        self.points = torch.tensor(moons - [0.5, 0.25] + noise * jitter, dtype=torch.float32)

    def __len__(self):
        return len(self.points)

    def batch(self, indices):
        return self.points[list(indices)], {"label": self.labels[list(indices)]}


class MeanDistance(Metric):
    card = MetricCard("two_moons/mean-distance", "lower", "1", (0.0, float("inf")), 0.0, 10)

    def compute(self, samples, reference):
        self.check(samples, reference)
        return float((samples.states.double().mean(0) - reference.states.double().mean(0)).norm())


@hookimpl
def register_domains(register):
    register("two_moons", "2-D points", "two_moons:Points")


@hookimpl
def register_datasets(register):
    register("two_moons/points", "two moons, two classes", "two_moons:Moons")


@hookimpl
def register_metrics(register):
    register("two_moons/mean-distance", "distance of the means", "two_moons:MeanDistance")


@hookimpl
def register_recipes(register):
    register("two_moons/small", "two moons, in seconds", "two_moons:RECIPE")


RECIPE = {
    "name": "two_moons/small",
    "domain": "two_moons",
    "dataset": "two_moons/points",
    "network": {"name": "mlp", "options": {"width": 64, "blocks": 2}},
    "sigma_data": 0.7,
    "parametrization": "edm",
    "objective": {"name": "denoising", "options": {"weighting": "edm"}},
    "training": {"steps": 1000, "batch_size": 256, "condition_dropout": 0.1, "schedule": "cosine"},
    "metrics": ["two_moons/mean-distance"],
}
