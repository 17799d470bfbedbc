"""The parts of the toy domain. ``TOY_SLEEP`` (seconds) makes every network call slow, for tests that kill a run."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import time
import zlib
from pathlib import Path

import torch

from anydiff.data.dataset import Dataset
from anydiff.denoisers import GaussianMixtureOracle
from anydiff.domains import Domain
from anydiff.metrics import Metric, MetricCard, Score
from anydiff.metrics.distances import frechet_distance
from anydiff.metrics.ensembles import EnsembleMetric
from anydiff.paths import VPCosine
from anydiff.recipes import Recipe
from anydiff.solvers import Solver
from anydiff.states import UNCONDITIONAL, ClassCondition, Conditioning, StateSpec
from anydiff.tasks import Task
from anydiff.training import TrainingSettings

MEANS = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 1, 0, 1])
STD = 0.2


class Points(Domain):
    name = "toy"
    spec = StateSpec.single((2,), "point")
    conditions = {"label": ClassCondition(2)}  # noqa: RUF012

    def encode(self, objects):
        return torch.tensor(objects, dtype=torch.float32).reshape(-1, 2)

    def decode(self, states, condition=None):
        return [tuple(point) for point in states.tolist()]

    def read(self, path):
        return [tuple(map(float, line.split())) for line in Path(path).read_text().splitlines()]

    def write(self, objects, path):
        Path(path).write_text("\n".join(f"{x} {y}" for x, y in objects))

    def draw(self, objects, path, titles=None):
        side = 96
        pixels = bytearray(b"\xff" * side * side)
        for x, y in objects:
            column, row = (min(side - 2, max(1, round((v + 2) / 4 * side))) for v in (x, -y))
            for down in (-1, 0, 1):
                start = (row + down) * side + column - 1
                pixels[start : start + 3] = bytes(3)
        raw = b"".join(b"\0" + pixels[row * side : (row + 1) * side] for row in range(side))
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(raw)),
            (b"IEND", b""),
        ]
        body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
        Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + body)

    def describe_condition(self, condition):
        return [f"class {label}" for label in condition.given["label"].tolist()] if "label" in condition.given else []


class Mixture(Dataset):
    name = "toy/<b>mixture"

    def __init__(self, split="train", count=300):
        generator = torch.Generator().manual_seed({"train": 1, "test": 2}[split])
        spots = torch.randint(0, 4, (count,), generator=generator)
        noise = torch.randn(count, 2, dtype=torch.float64, generator=generator)
        self.states = (MEANS[spots] + STD * noise).float()
        self.labels = CLASSES[spots]

    @property
    def hash(self):
        return hashlib.sha256(self.states.numpy().tobytes()).hexdigest()

    @property
    def domain(self):
        return Points()

    def __len__(self):
        return len(self.states)

    def batch(self, indices):
        rows = torch.as_tensor(list(indices))
        return self.states[rows], Conditioning({"label": self.labels[rows]})


class Exact(torch.nn.Module):
    """E[ε | x_t] of the mixture, at the noise level the log-SNR says; ``bias`` is what training would get wrong."""

    def __init__(self, spec, conditions, bias=0.0):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.tensor(float(bias)))
        self.oracle = GaussianMixtureOracle(VPCosine(), MEANS, STD, classes=CLASSES)

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
        t = self.oracle.path.time(log_snr.double())
        return self.oracle.predict(x.double(), t, "noise", condition).to(x.dtype) + self.bias


class Frechet(Metric):
    def __init__(self, version="1"):
        self.version = version

    @property
    def card(self):
        return MetricCard("toy/frechet", "lower", "m²", (0.0, math.inf), 0.0, 20, version=self.version)

    def compute(self, samples, reference):
        return frechet_distance(samples.states, reference.states)


class Near(Metric):
    card = MetricCard("toy/near", "higher", "1", (0.0, 1.0), 1.0, 10)

    def compute(self, samples, reference):
        gap = torch.cdist(samples.states.double(), MEANS)
        own = CLASSES[None] == samples.condition.given["label"][:, None]
        return float((gap.masked_fill(~own, math.inf).min(dim=1).values < 3 * STD).double().mean())


class Touchy(Metric):
    card = MetricCard("toy/touchy", "lower", "1", (0.0, 1.0), 0.0, 10)

    def compute(self, samples, reference):
        raise RuntimeError("<script>alert(1)</script> it hurts")


class Broken(Solver):
    order = 1

    def build(self, program, nodes):
        raise ZeroDivisionError("<img src=x onerror=alert(1)>")


def points(metrics=("toy/frechet", "toy/near")):
    return Recipe(
        name="toy/points",
        help="Four spots <script>alert('help')</script> & more",
        domain={"name": "toy"},
        dataset={"name": "toy/mixture"},
        network={"name": "toy/exact"},
        path="vp-cosine",
        training=TrainingSettings(steps=1),
        metrics=list(metrics),
    )


def touchy():
    return points(("toy/frechet", "toy/touchy"))


def points_task():
    return Task(name="toy/points", version=2, recipe="toy/points", samples=100)


def points_task_1():
    return Task(name="toy/points", version=1, recipe="toy/points", samples=50)


def large_task():
    return Task(name="toy/large", recipe="toy/points", samples=1000, tier="full")


def cut_task():
    return Task(name="toy/cut", recipe="toy/cut", samples=100)


def touchy_task():
    return Task(name="toy/touchy", recipe="toy/touchy", samples=100)


# Conditional tasks, closed loops and an oracle ------------------------------------------------------------------------


class BestOfMembers(EnsembleMetric):
    """The error of the member nearest to the truth: an oracle that does not say so."""

    card = MetricCard("toy/best", "lower", "m", (0.0, math.inf), 0.0, 2)

    def score(self, members, truth, weights):
        return float((members - truth[:, None]).norm(dim=-1).min(dim=1).values.mean())


def ensembles():
    return points(("crps", "toy/best"))


def members_task():
    baselines = {"origin": "anydiff_toy.parts:origin", "wrong": "anydiff_toy.parts:wrong"}
    return Task(name="toy/members", recipe="toy/ensembles", samples=120, members=6, baselines=baselines)


def origin(training_data, condition, count, seed):
    assert len(condition.given["label"]) == count
    return torch.zeros(count, 2)


def wrong(training_data, condition, count, seed):
    return torch.zeros(3, 2)


def loop_task():
    return Task(
        name="toy/loop", recipe="toy/points", samples=40, evaluator="anydiff_toy.parts:closed_loop",
        baselines={"nothing": "anydiff_toy.parts:nothing"},
    )  # fmt: skip


_RETURN = MetricCard("toy/return", "higher", "1", (-math.inf, math.inf), 1.0, 1)


def closed_loop(pipeline, count, seed, **sampling):
    """Two plans, the second from other seeds."""
    asked = {"label": torch.arange(count) % 2}
    plans = [pipeline.sample_set(count, seed=seed + turn, condition=asked, **sampling).states for turn in range(2)]
    return {"return": Score(-float(torch.stack(plans).norm(dim=-1).sub(2**0.5).abs().mean()), _RETURN, count)}


def nothing(training_data, condition, count, seed):
    return {"return": Score(-1.0, _RETURN, count)}
