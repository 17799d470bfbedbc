"""Faults that plugins were found with, planted into correct plugins: (check, plugin, name, places as (file, old, new)).

Beside the one defect per check of ``mutants.py``: several of these belong to one check, and some need two places.
"""

from __future__ import annotations

import class_faults
import order_faults

INIT_OPERATION = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_operations(register):
    register("mutant/clip", "clip what is far out", "anydiff_mutant.parts:clip")
    register("mutant/turn", "turn the sign", "anydiff_mutant.parts:turn")

@hookimpl
def register_solvers(register):
    register("mutant", "Euler's method, clipped", "anydiff_mutant.parts:Clipped", order=1, kind="one-step",
             calls_per_step=1, stochastic=False, source="Euler 1768")
"""
OPERATION = """
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar
from anydiff.solvers import Solver

def clip(x, *, t, limit=1000.0):
    return x.clamp(-limit, limit)

def turn(x, *, t):
    return -x

@dataclass(frozen=True)
class Clipped(Solver):
    order: ClassVar[int] = 1
    calls_per_step: ClassVar[int] = 1

    def build(self, program, nodes):
        x = program.start()
        for s, t in pairwise(nodes):
            rate = s.path.d_sigma(s.t) / s.sigma
            x = x + (t.t - s.t) * (rate * x + (s.path.d_alpha(s.t) - s.alpha * rate) * program.evaluate(x, s))
        return program.apply("mutant/clip", x, node=nodes[-1], limit=1000.0)
"""
INIT_PAIRED = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_domains(register):
    register("mutant", "a number of a case", "anydiff_mutant.parts:Numbers")

@hookimpl
def register_datasets(register):
    register("mutant/numbers", "numbers, each a case", "anydiff_mutant.parts:Data")

@hookimpl
def register_metrics(register):
    register("mutant/error", "error of the mean", "anydiff_mutant.parts:Error", paired=True)
"""
PAIRED = """
import numpy as np
import torch
from matplotlib.figure import Figure
from anydiff.data.dataset import Dataset
from anydiff.domains import Domain, LabelledArray
from anydiff.errors import AnydiffError
from anydiff.files import check_suffix, write_atomic
from anydiff.metrics.ensembles import EnsembleRMSE
from anydiff.states import UNCONDITIONAL, StateSpec

class Numbers(Domain):
    # An object is (number, case), case -1 where it is not known.
    name, suffixes, spec = "mutant", (".csv",), StateSpec.single((1,), name="number")

    def encode(self, objects):
        return torch.tensor([[x] for x, _ in objects], dtype=torch.float32).reshape(-1, 1)

    def decode(self, states, condition=None):
        return [(x, -1) for x in states[:, 0].tolist()]

    def labelled(self, objects, labels, members):
        return [(x, label) for (x, _), label in zip(objects, labels)]

    def label_arrays(self, labels):
        return {"number": LabelledArray(np.array(labels), ("case",))}

    def match(self, objects, labels):
        if all(case < 0 for _, case in objects):
            return None
        wrong = [case for _, case in objects if case not in labels]
        if wrong:
            raise AnydiffError(f"a number is of case {wrong[0]}, which is not held out; draw others.")
        return [labels.index(case) for _, case in objects]

    def read(self, path):
        return [(x, int(case)) for x, case in np.loadtxt(path, delimiter=",", ndmin=2).tolist()]

    def write(self, objects, path):
        check_suffix(path, self.suffixes, "numbers")
        write_atomic(path, "".join(f"{x!r},{case}\\n" for x, case in objects))

    def draw(self, objects, path, titles=None):
        Figure().gca().plot([x for x, _ in objects]).pop().figure.savefig(path, format="png")

class Data(Dataset):
    name, domain = "mutant/numbers", Numbers()

    def __init__(self, split="train"):
        self.numbers = torch.as_tensor(np.random.default_rng(["train", "test"].index(split)).normal(size=(500, 1)))

    def __len__(self):
        return len(self.numbers)

    def batch(self, indices):
        return self.numbers[list(indices)].float(), UNCONDITIONAL

    def case_labels(self, indices):
        return [int(index) for index in indices]

class Error(EnsembleRMSE):
    name = "mutant/error"
"""
WRITTEN = {
    **class_faults.WRITTEN,
    **order_faults.WRITTEN,
    "operation": {"__init__": INIT_OPERATION, "parts": OPERATION},
    "paired": {"__init__": INIT_PAIRED, "parts": PAIRED},
}

REGISTER_TASK = """

@hookimpl
def register_tasks(register):
    register("mutant/rows@1", "the rows", "anydiff_mutant.tasks:judged")
"""
TASK = """
from anydiff.tasks.task import Task

def judged():
    return Task(name="mutant/rows", recipe="mutant/small", samples=100, baselines={"zero": "anydiff_mutant.tasks:zero"})

def zero(data, condition, count, seed):
    return 0 * data.batch(range(count))[0]
"""

_MASK = "    def encode(self, objects):"
_CLASS = 'name, domain = "mutant/rows", Mutant()\n'
_SPLIT = """name = "mutant/rows"

    @property
    def domain(self):
        return Split(self.classes)
"""
_SPLIT_DOMAIN = """

class Split(Mutant):
    def __init__(self, classes):
        self.classes = classes

    @property
    def codec(self):
        return {"classes": self.classes}


class Rows("""
_BY_SPLIT = "        self.classes = ['low', 'high'][:: 1 if split == 'train' else -1]\n"
_WEIGHTS = '"anydiff_mutant.recipes:small"'

FAULTS: list[tuple[str, str, str, list[tuple[str, str, str]]]] = [
    *class_faults.FAULTS,
    *order_faults.FAULTS,
    (
        "domain.match",
        "paired",
        "data that do not name their cases",
        [("parts", "return [int(index) for index in indices]", "return None")],
    ),
    (
        "domain.match",
        "paired",
        "cases that go into no file",
        [("parts", "return [(x, label) for (x, _), label in zip(objects, labels)]", "return list(objects)")],
    ),
    (
        "domain.match",
        "paired",
        "cases that stand beside no arrays",
        [("parts", 'return {"number": LabelledArray(np.array(labels), ("case",))}', "return {}")],
    ),
    (
        "domain.match",
        "paired",
        "pairs by order",
        [("parts", "return [labels.index(case) for _, case in objects]", "return list(range(len(objects)))")],
    ),
    (
        "domain.match",
        "paired",
        "pairs what is of no case",
        [
            (
                "parts",
                "        if wrong:\n",
                "        if wrong and len(labels) < 5:\n            return [0] * len(objects)\n        if wrong:\n",
            )
        ],
    ),
    (
        "domain.match",
        "paired",
        "states in another unit than was asked for",
        [
            (
                "parts",
                "    def labelled",
                "    def encode_asked(self, objects, condition):\n"
                "        return 2 * self.encode(objects)\n\n    def labelled",
            )
        ],
    ),
    ("domain.suffixes", "paired", "names no endings", [("parts", '(".csv",)', "()")]),
    (
        "domain.suffixes",
        "paired",
        "one form for all",
        [
            (
                "parts",
                "    def labelled",
                "    def canonical(self, objects):\n        return [(0.0, -1)] * len(objects)\n\n    def labelled",
            )
        ],
    ),
    (
        "solver.order",
        "solver",
        "a constant factor that more steps do not mend",
        [("solver", "h * (first + 3 * second) / 4", "1.01 * h * (first + 3 * second) / 4")],
    ),
    (
        "metric.read-only",
        "metric",
        "zeroes the samples",
        [("metric", "        return abs(", "        samples.states.zero_()\n        return abs(")],
    ),
    (
        "metric.read-only",
        "metric",
        "sorts the reference through NumPy",
        [("metric", "        return abs(", "        reference.states.numpy().sort(axis=0)\n        return abs(")],
    ),
    (
        "metric.plain",
        "metric",
        "a card that JSON cannot hold",
        [("metric", "0.0, 10)", "0.0, __import__('numpy').int64(10))")],
    ),
    (
        "domain.sample-mask",
        "sets",
        "by the place in the batch",
        [
            (
                "parts",
                _MASK,
                "    def sample_mask(self, samples, seed):\n"
                "        return torch.arange(4)[None] < 2 + (torch.arange(len(samples))[:, None] + seed) % 3\n\n"
                + _MASK,
            )
        ],
    ),
    (
        "domain.sample-mask",
        "sets",
        "by the size of the batch",
        [
            (
                "parts",
                _MASK,
                "    def sample_mask(self, samples, seed):\n"
                "        sizes = torch.tensor(list(samples))[:, None] + len(samples) + seed\n"
                "        return torch.arange(4)[None] < 2 + sizes % 3\n\n" + _MASK,
            )
        ],
    ),
    (
        "domain.sample-mask",
        "sets",
        "without the seed",
        [
            (
                "parts",
                _MASK,
                "    def sample_mask(self, samples, seed):\n"
                "        return torch.arange(4)[None] < 2 + torch.tensor(list(samples))[:, None] % 3\n\n" + _MASK,
            )
        ],
    ),
    (
        "domain.protocols",
        "domain",
        "entries are fixed though nothing is asked for",
        [
            (
                "domain",
                _MASK,
                "    def known_entries(self, condition):\n"
                "        import torch\n\n"
                "        return torch.zeros(5, *self.spec.shape), torch.ones(5, *self.spec.shape, dtype=torch.bool)\n\n"
                + _MASK,
            )
        ],
    ),
    (
        "domain.protocols",
        "domain",
        "values in units by NumPy, which nothing can differentiate",
        [
            (
                "domain",
                _MASK,
                "    def in_units(self, states, condition):\n"
                "        import torch\n\n"
                "        return torch.from_numpy(2 * states.detach().numpy())\n\n" + _MASK,
            )
        ],
    ),
    (
        "domain.protocols",
        "domain",
        "values in units of the batch's mean",
        [
            (
                "domain",
                _MASK,
                "    def in_units(self, states, condition):\n        return states - states.mean(0)\n\n" + _MASK,
            )
        ],
    ),
    (
        "domain.protocols",
        "domain",
        "coordinates of another length than the arrays",
        [
            (
                "domain",
                _MASK,
                "    def coordinates(self):\n"
                "        import numpy\n"
                "        from anydiff.domains import LabelledArray\n\n"
                "        (one,) = self.arrays(self.encode([numpy.zeros(self.spec.shape)])).values()\n"
                "        return {'place': LabelledArray(numpy.zeros(one.values.shape[1] + 1), one.dimensions[:1])}\n\n"
                + _MASK,
            )
        ],
    ),
    (
        "domain.conditions",
        "domain",
        "one class asked for, the other given",
        [("domain", "CLASSES.index(value)", "1 - CLASSES.index(value)")],
    ),
    (
        "domain.conditions",
        "domain",
        "two classes described alike",
        [("domain", "[CLASSES[label] for label in", '["low or high" for label in')],
    ),
    (
        "domain.options",
        "domain",
        "an option that the codec does not show",
        [("domain", _MASK, "    def __init__(self, scale=1.0):\n        self.scale = scale\n\n" + _MASK)],
    ),
    (
        "domain.options",
        "domain",
        "a list of classes that the codec does not show",
        [
            (
                "domain",
                _MASK,
                "    def __init__(self, classes=('low', 'high')):\n        self.classes = classes\n\n" + _MASK,
            )
        ],
    ),
    (
        "domain.options",
        "domain",
        "a codec that JSON cannot hold",
        [("domain", _MASK, "    codec = {'scale': object()}\n\n" + _MASK)],
    ),
    (
        "domain.atomic",
        "domain",
        "overwrites in place",
        [("domain", "with atomic_path(path) as temporary:", "for temporary in [path]:")],
    ),
    (
        "data.splits",
        "domain",
        "classes numbered per split",
        [
            ("data", _CLASS, _SPLIT),
            ("data", "class Rows(", _SPLIT_DOMAIN.lstrip()),
            (
                "data",
                "        random =",
                f"{_BY_SPLIT}        random =",
            ),
        ],
    ),
    (
        "guidance.denoiser",
        "guidance",
        "double precision whatever comes in",
        [("guidance", "return data + self", "return data.double() + self")],
    ),
    (
        "guidance.rows",
        "guidance",
        "images guided by their mean",
        [("guidance", "(self.value - data)", "((data.mean(0) if x.ndim == 4 else 0.0) - data)")],
    ),
    (
        "operation.rows",
        "operation",
        "a length of the whole batch",
        [("parts", "return -x", "return -x / x.norm()")],
    ),
    (
        "operation.rows",
        "operation",
        "in place",
        [("parts", "return -x", "return x.neg_()")],
    ),
    (
        "recipe.weights",
        "domain with recipe",
        "bundled weights that are not there",
        [("__init__", _WEIGHTS, _WEIGHTS + ', weights="anydiff_mutant:weights/small.safetensors"')],
    ),
    (
        "task.names",
        "task",
        "a recipe that nobody provides",
        [("tasks", 'recipe="mutant/small"', 'recipe="mutant/smal"')],
    ),
    ("task.names", "task", "a baseline that nobody provides", [("tasks", "tasks:zero", "tasks:nought")]),
    (
        "task.names",
        "task",
        "a metric that nobody provides",
        [("tasks", "samples=100", "samples=100, metrics=['no']")],
    ),
    ("task.locked", "task", "another number of samples", [("tasks", "samples=100", "samples=200")]),
    ("task.locked", "task", "another preprocessing", [("data", "rows - 0.5", "rows - 0.501")]),
]
