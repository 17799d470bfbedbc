"""A whole domain in one file: points on mirrored moons. Try `anydiff --plugins-dir examples train two_moons/small`"""

import numpy as np
import torch
from matplotlib.figure import Figure

from anydiff import hookimpl
from anydiff.data import ArrayDataset
from anydiff.domains import Domain
from anydiff.files import check_suffix, write_atomic
from anydiff.metrics import Metric, MetricCard
from anydiff.states import ClassCondition, StateSpec


class Points(Domain):
    name, suffixes, conditions = "two_moons", (".csv",), {"label": ClassCondition(2)}
    spec = StateSpec.single((2,), name="point")
    read = staticmethod(lambda path: list(np.loadtxt(path, delimiter=",", ndmin=2)))

    def encode(self, objects):
        return torch.as_tensor(np.asarray(objects), dtype=torch.float32)

    def decode(self, states, condition=None):
        return list(states.double().numpy())

    def write(self, objects, path):
        check_suffix(path, self.suffixes, "points")
        write_atomic(path, "".join(f"{x!r},{y!r}\n" for x, y in np.asarray(objects).tolist()))

    def draw(self, objects, path, titles=None):
        Figure(figsize=(4, 4)).gca().scatter(*np.asarray(objects).T, s=4).figure.savefig(path, format="png")


class Moons(ArrayDataset):
    name, domain = "two_moons/points", Points()

    def __init__(self, split="train", count=2000):
        random, label = np.random.default_rng(["train", "test"].index(split)), np.arange(count) % 2
        upper = np.stack([np.cos(angle := random.uniform(0, np.pi, count)) - 0.5, np.sin(angle) - 0.25], axis=1)
        super().__init__(np.where(label[:, None], -upper, upper) + random.normal(0, 0.1, (count, 2)), {"label": label})


class MeanDistance(Metric):
    card = MetricCard("two_moons/mean-distance", "lower", "1", (0.0, float("inf")), 0.0, 10)

    def compute(self, samples, reference):
        self.check(samples, reference)
        return float((samples.states.double().mean(0) - reference.states.double().mean(0)).norm())


PARTS = {"domain": "two_moons", "dataset": "two_moons/points", "metrics": ["two_moons/mean-distance"]}
MODEL = {"network": {"name": "mlp", "options": {"width": 64, "blocks": 2}}, "parametrization": "edm", "sigma_data": 0.7}
TRAINING = {"steps": 1000, "batch_size": 256, "condition_dropout": 0.1, "schedule": "cosine"}
SMALL = {**PARTS, **MODEL, "name": "two_moons/small", "training": TRAINING}

register_domains = hookimpl(lambda register: register("two_moons", "2-D points", "two_moons:Points"))
register_datasets = hookimpl(lambda register: register("two_moons/points", "two moons", "two_moons:Moons"))
register_metrics = hookimpl(lambda register: register("two_moons/mean-distance", "of means", "two_moons:MeanDistance"))
register_recipes = hookimpl(lambda register: register("two_moons/small", "in seconds", "two_moons:SMALL"))
