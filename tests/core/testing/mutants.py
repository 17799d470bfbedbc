"""One small defect per check: a correct plugin with one place changed, as (check, plugin, file, old, new)."""

from __future__ import annotations

import sets

INIT_PATH = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_paths(register):
    register("mutant", "a straight path", "anydiff_mutant.parts:Mine")
"""
PATH = """
from dataclasses import dataclass
from typing import ClassVar
import torch
from anydiff.paths import Flow
from anydiff.states import GaussianNoise

class Half(GaussianNoise):
    def draw(self, *given):
        return 0.5 * super().draw(*given)

@dataclass(frozen=True)
class Mine(Flow):
    t_start: float = 1.0
    # here
"""
INIT_SAMPLER = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_samplers(register):
    register("mutant", "Euler in the logarithm of the noise level", "anydiff_mutant.parts:Mine", stochastic=False)
"""
SAMPLER = """
from dataclasses import dataclass
import torch
from anydiff.samplers import Sampler

@dataclass
class Mine(Sampler):
    steps: int = 200
    nfe: int = 0

    @torch.no_grad()
    def draw(self, chunk):
        path, x = chunk.path, chunk.first
        times = torch.linspace(path.t_start, path.t_end, self.steps + 1).tolist()
        for number, (s, t) in enumerate(zip(times[:-1], times[1:]), 1):
            data = chunk.denoiser(x, s, chunk.condition)
            chunk.tell(number, s, x, data, "data")
            x = path.alpha(t) * data + path.sigma(t) / path.sigma(s) * (x - path.alpha(s) * data)
        self.nfe = self.steps
        return x
"""
INIT_MEASURED = """
from anydiff.hookspecs import hookimpl

ANYDIFF_CHECK_OPTIONS = {"mutant": {"shape": [6]}}

@hookimpl
def register_operators(register):
    register("mutant", "every second entry, twice", "anydiff_mutant.parts:Mine", linear=True)
"""
MEASURED = """
import torch
from anydiff.inverse.operators import LinearOperator

class Mine(LinearOperator):
    def __init__(self, shape):
        self.shape, self.output = tuple(shape), (shape[-1] // 2,)

    def forward(self, x):
        y = 2 * x[..., ::2]
        return y

    def adjoint(self, y):
        return 2 * torch.stack([y, torch.zeros_like(y)], -1).flatten(-2)

    def pseudo_inverse(self, y):
        return torch.stack([y, torch.zeros_like(y)], -1).flatten(-2) / 2
"""
INIT_INVERSE = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_inverse_methods(register):
    register("mutant", "pseudo-inverse guidance", "anydiff_mutant.parts:Mine", kind="guidance", estimate="samples",
             posterior=True)
"""
INVERSE = """
from dataclasses import dataclass
from anydiff.inverse import PiGDM

@dataclass(frozen=True)
class Mine(PiGDM):
    covariance: str = "jacobian"

    def solve(self, problem, denoiser, spec, count=1, **options):
        found = super().solve(problem, denoiser, spec, count, **options)
        return found
"""
INIT_EDIT = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_edits(register):
    register("mutant", "edit-friendly noises", "anydiff_mutant.parts:Mine", exact=True)
"""
EDIT = """
from dataclasses import dataclass
from anydiff.editing import EditFriendly

@dataclass(frozen=True)
class Mine(EditFriendly):
    skip: float = 0.1

    def edited(self, edit):
        found = super().edited(edit)
        return found
"""
INIT_CALIBRATION = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_calibrations(register):
    register("mutant", "ratios, by few candidates", "anydiff_mutant.parts:Mine")
"""
CALIBRATION = """
from dataclasses import dataclass, replace
from typing import ClassVar
from anydiff.calibration import DCSolver, Spending

@dataclass(frozen=True)
class Mine(DCSolver):
    name: ClassVar[str] = "mutant"
    candidates: int = 4

    def plan(self, values, path, nfe, guided=False):
        return super().plan(values, path, nfe, guided)

    def search(self, trials, nfe, spending):
        found = super().search(trials, nfe, spending)
        return found

    def compared(self, won, plain, end):
        value, other, ratio = super().compared(won, plain, end)
        return value, other, ratio
"""
INIT_OBJECTIVE = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_objectives(register):
    register("mutant", "squared error of the noise", "anydiff_mutant.parts:Mine")
"""
OBJECTIVE = """
import torch
from torch import nn
from anydiff.objectives import DenoisingObjective

class Mine(DenoisingObjective):
    def __init__(self):
        self.scale = nn.Linear(1, 1)

    def modules(self):
        return {"scale": self.scale}

    def times(self, path, uniform):
        return path.t_end + (path.t_start - path.t_end) * uniform

    def noise_weight(self, path, t, sigma_data):
        return torch.ones_like(t)

    def loss(self, call):
        loss = super().loss(call) * (1 + 0.1 * call.draws.uniform("jitter").float())
        loss = loss * self.scale(torch.ones(1, 1))[0, 0].square()
        return loss
"""
INIT_METHOD = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_training_methods(register):
    register("mutant", "a critic, a teacher and a slow copy", "anydiff_mutant.parts:Mine")
"""
METHOD = """
import copy
import torch
from torch import nn
from anydiff.training import Average, TrainingMethod

class Mine(TrainingMethod):
    def __init__(self, denoiser, objective):
        super().__init__(denoiser, objective)
        size = denoiser.spec.size
        self.critic, self.teacher, self.calls = nn.Linear(size, 1), nn.Linear(size, size), 0
        self.slow = copy.deepcopy(self.critic)

    def modules(self):
        return {**super().modules(), "critic": self.critic}

    def frozen(self):
        return {"teacher": self.teacher}

    def averages(self):
        return {"slow": Average(self.slow, "critic", 0.5)}

    def order(self):
        return [["critic"], ["network"]]

    def step(self, examples, progress, groups):
        clean = examples.clean.flatten(1)
        seen = clean @ self.teacher.weight.T
        if groups == ("critic",):
            return {"critic": {"error": (self.critic(clean)[:, 0] - seen.sum(1)).square()}}
        loss = self.loss(examples)
        return {"network": {"loss": loss, "slow": self.slow(clean)[:, 0].square()}}
"""
INIT_NETWORK = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_networks(register):
    register("mutant", "a small network", "anydiff_mutant.parts:Net")
"""
NETWORK = """
import math
import torch
from torch import nn
from anydiff.networks import ConditionEncoder
from anydiff.states import UNCONDITIONAL

class Net(nn.Module):
    def __init__(self, spec, conditions=None):
        super().__init__()
        size = math.prod(spec.shape)
        self.entry, self.exit = nn.Linear(size + 1, 16), nn.Linear(16, size)
        self.encoder = ConditionEncoder(conditions or {}, 16)
        self.scale = 1.0  # buffers

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        h = self.entry(torch.cat([x.flatten(1), log_snr[:, None]], 1)) + self.encoder(len(x), condition)
        h = h * self.scale
        return self.exit(torch.tanh(h)).reshape(x.shape)
"""
INIT_POSTERIOR = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_guidance(register):
    register("mutant", "the posterior of a linear measurement", "anydiff_mutant.parts:Posterior", posterior=True)
"""
POSTERIOR = '''
from dataclasses import dataclass
import torch
from anydiff.guidance import Guidance

@dataclass(frozen=True, eq=False)
class Posterior(Guidance):
    """D + V A' (A V A' + s^2)^-1 (y - A D) with V = sigma^2/alpha dD/dx, the covariance of x0 given x_t."""

    operator: object
    measurement: object
    noise_std: float

    def data(self, denoiser, x, t, condition):
        scale = denoiser.path.sigma(t) ** 2 / denoiser.path.alpha(t)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            data = denoiser(x, t, condition)
            rows = [torch.autograd.grad(data[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
        covariance, data = scale * torch.stack(rows, 1), data.detach()
        seen = self.operator @ covariance
        noise = self.noise_std**2 * torch.eye(len(self.operator), dtype=x.dtype)
        gain = torch.linalg.solve(seen @ self.operator.T + noise, seen).transpose(1, 2)
        return data + (gain @ (self.measurement - data @ self.operator.T)[..., None])[..., 0]
'''
INIT_ADAPTER = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_adapters(register):
    register("mutant", "a network that is told the noise level", "anydiff_mutant.parts:Mine", packages=["mutants"])
"""
ADAPTER = """
import torch
from anydiff.adapters import Adapter, Example, denoiser_of
from anydiff.networks import ForeignNetwork
from anydiff.paths import Foreign, foreign

class Network(torch.nn.Module):
    def forward(self, x, sigma):
        return x / (1 + sigma.reshape(-1, 1) ** 2)

class Told(Foreign):
    def told(self, t):
        return super().told(t)

class Mine(Adapter):
    def wrap(self, network, schedule=None):
        made = foreign("edm", "noise-level")
        path = Told(made.inner, made.time_told)
        call = lambda network, x, times, given: network(x, times)
        return denoiser_of(ForeignNetwork(network, call, sign=1.0), path, "data")

    def example(self):
        times = (1.0, 4.0, 9.0)
        states = torch.linspace(-2, 2, 12).reshape(3, 4)
        return Example(Network(), None, states, times, tuple((1.0, s) for s in times), lambda x, s: x / (1 + s**2))
"""
WRITTEN = {
    "adapter": {"__init__": INIT_ADAPTER, "parts": ADAPTER},
    "sampler": {"__init__": INIT_SAMPLER, "parts": SAMPLER},
    "measured": {"__init__": INIT_MEASURED, "parts": MEASURED},
    "inverse": {"__init__": INIT_INVERSE, "parts": INVERSE},
    "edit": {"__init__": INIT_EDIT, "parts": EDIT},
    "calibration": {"__init__": INIT_CALIBRATION, "parts": CALIBRATION},
    "path": {"__init__": INIT_PATH, "parts": PATH},
    "objective": {"__init__": INIT_OBJECTIVE, "parts": OBJECTIVE},
    "method": {"__init__": INIT_METHOD, "parts": METHOD},
    "network": {"__init__": INIT_NETWORK, "parts": NETWORK},
    "posterior": {"__init__": INIT_POSTERIOR, "parts": POSTERIOR},
    "sets": {"__init__": sets.INIT, "parts": sets.PARTS},
}
"""Correct plugins of the kinds that have no skeleton; the others are the skeletons themselves."""

CONNECT = """
import socket
try:
    socket.create_connection(("127.0.0.1", 9), 0.1).close()
except OSError:
    pass
"""
API = 'ANYDIFF_API = ">=2.0,<3"\n'
HASH = "    hash = property(lambda self: __import__('hashlib').sha256({}).hexdigest())\n\n    def __len__"
START = "x = program.start()"
DATA = "    def data(self, denoiser, x, t, condition):"

MUTANTS: list[tuple[str, str, str, str, str]] = [
    ("adapter.levels", "adapter", "parts", 'foreign("edm",', 'foreign("flow",'),
    ("adapter.agrees", "adapter", "parts", "sign=1.0", "sign=-1.0"),
    ("adapter.between", "adapter", "parts", "super().told(t)", "super().told(t).round()"),
    ("loading.loads", "solver", "__init__", "register_solvers", "register_solverz"),
    ("loading.light", "solver", "__init__", API, API + "import sys\nsys.modules.setdefault('torch', sys)\n"),
    ("loading.quick", "solver", "__init__", API, API + "import time\ntime.sleep(1.2)\n"),
    ("loading.offline", "solver", "__init__", API, API + CONNECT),
    (
        "loading.twice",
        "solver",
        "__init__",
        '        "Ralston\'s method in time",',
        '        f"call {len(calls)} {calls.append(0)}",',
    ),
    (
        "loading.leaves-nothing",
        "solver",
        "__init__",
        API,
        API + "import anydiff.hookspecs as h\nh.TRANSFORMS = frozenset(list(h.TRANSFORMS))\n",
    ),
    ("loading.api", "solver", "__init__", ">=2.0,<3", ">=2.0"),
    (
        "loading.references",
        "solver",
        "__init__",
        API,
        API
        + '@hookimpl\ndef register_commands(register):\n    register("mutant/x", "x", "anydiff_mutant.solver:gone")\n',
    ),
    ("solver.facts", "solver", "__init__", '        source="Ralston 1962",\n', ""),
    ("solver.exact", "solver", "solver", "second) / 4", "second) / 4 * (1.2 if len(nodes) == 121 else 1)"),
    ("solver.order", "solver", "solver", "h * (first + 3 * second) / 4", "h * (first + 1e-9 * second)"),
    (
        "solver.cost",
        "solver",
        "solver",
        "    def build",
        "    def steps(self, nfe):\n        return nfe\n\n    def build",
    ),
    ("solver.further-call", "solver", "solver", "second) / 4", "second) / 4 * (1.2 if program.budget == 49 else 1)"),
    ("solver.memory", "solver", "solver", START, START + "\n        past = 1e-30 * x"),
    ("solver.one-step", "solver", "solver", START, START + " * (1.0 if nodes[0].sigma < 10 else float('nan'))"),
    (
        "solver.ends",
        "solver",
        "solver",
        "program.evaluate(x, s)",
        "program.evaluate(x, program.node(s.t * (1 + 1e-9)))",
    ),
    (
        "solver.batch",
        "solver",
        "solver",
        START,
        "from anydiff.solvers.operations import OPERATIONS\n"
        "        OPERATIONS['mutant'] = lambda x, t: x + 1e-4 * (x.mean(0) - x)\n"
        "        x = program.apply('mutant', program.start(), node=nodes[0])",
    ),
    ("solver.noise", "solver", "solver", START, START + " + 0.0 * program.noise()"),
    ("measured.rows", "measured", "parts", "        return y\n", "        x[..., 1] = 0.0\n        return y\n"),
    ("measured.adjoint", "measured", "parts", "return 2 * torch", "return 3 * torch"),
    ("measured.inverse", "measured", "parts", "flatten(-2) / 2", "flatten(-2) / 3"),
    (
        "inverse.meets",
        "inverse",
        "parts",
        "        return found\n",
        "        return found / 2 if found.shape[1] == 3 else found\n",
    ),
    (
        "inverse.posterior",
        "inverse",
        "parts",
        "        return found\n",
        "        return 1.25 * found if found.shape[1] == 2 else found\n",
    ),
    (
        "inverse.rows",
        "inverse",
        "parts",
        "        return found\n",
        "        return found + (0.01 * found[1] if len(found) == 6 else 0.0)\n",
    ),
    (
        "edit.moves",
        "edit",
        "parts",
        "        return found\n",
        "        same = bool((edit.source.condition.given['label'] == edit.target.condition.given['label']).all())\n"
        "        return found if same else (found + edit.clean) / 2\n",
    ),
    (
        "edit.exact",
        "edit",
        "parts",
        "        return found\n",
        "        same = bool((edit.source.condition.given['label'] == edit.target.condition.given['label']).all())\n"
        "        return found + 0.01 if same else found\n",
    ),
    (
        "edit.rows",
        "edit",
        "parts",
        "        return found\n",
        "        return found + (0.1 * (edit.clean[1] + 1) if len(found) == 6 else 0.0)\n",
    ),
    (
        "calibration.determinism",
        "calibration",
        "parts",
        "values, path, nfe, guided)\n",
        "{}, path, nfe + bool(values), guided)\n",
    ),
    ("calibration.budget", "calibration", "parts", "nfe, spending)\n", "nfe, Spending(spending.seconds))\n"),
    ("calibration.refusal", "calibration", "parts", "path, nfe, guided)\n", "path, max(nfe, 1), guided)\n"),
    (
        "calibration.resume",
        "calibration",
        "parts",
        "        return found\n",
        "        seen = trials.once('seen', list)\n        seen.append(nfe)\n"
        "        return replace(found, score=found.score + 1e-6 * len(seen))\n",
    ),
    (
        "calibration.validation",
        "calibration",
        "parts",
        "        return value, other, ratio\n",
        "        return value, other, (ratio[0], ratio[1], min(ratio[2], 0.9))\n",
    ),
    ("sampler.exact", "sampler", "parts", "return x\n", "return 1.3 * x\n"),
    ("sampler.batch", "sampler", "parts", "return x\n", "return x + 0.1 * chunk.rows.start\n"),
    ("sampler.calls", "sampler", "parts", "self.nfe = self.steps", "self.nfe = self.steps - 1"),
    (
        "sampler.noise",
        "sampler",
        "parts",
        "return x\n",
        "return x + 1e-3 * chunk.noise.draw(chunk.samples, 1, x.dtype, x.device)\n",
    ),
    ("metric.card", "metric", "metric", '"mutant"', '"mutant/other"'),
    ("metric.identity", "metric", "metric", "return abs(", "return 5 + abs("),
    ("metric.direction", "metric", "metric", '"lower"', '"higher"'),
    ("metric.range", "metric", "metric", "math.inf", "0.5"),
    (
        "metric.order",
        "metric",
        "metric",
        "return abs(",
        "return 0.01 * abs(float(samples.states[0, 0])) + abs(",
    ),
    (
        "metric.truth",
        "metric",
        "metric",
        "return abs(",
        "return 0.1 * float((samples.states.double() - reference.states.double()).abs().mean()) + abs(",
    ),
    ("metric.closed-form", "metric", "metric", "return abs(math.log(", "return abs(1.1 * math.log("),
    (
        "metric.scores",
        "metric",
        "metric",
        "    def compute",
        "    def scores(self, samples, reference):\n        return [0.5]\n\n    def compute",
    ),
    ("metric.minimum", "metric", "metric", "        self.check(samples, reference)\n", ""),
    ("guidance.neutral", "guidance", "guidance", " if self.strength else data", ""),
    (
        "guidance.denoiser",
        "guidance",
        "guidance",
        DATA,
        "    def predict(self, denoiser, x, t, kind, given):\n"
        "        own = kind == 'data'\n"
        "        return self.data(denoiser, x, t, given) if own else denoiser.predict(x, t, kind, **given)\n\n" + DATA,
    ),
    ("guidance.rows", "guidance", "guidance", "(self.value - data)", "(data.mean() - data)"),
    (
        "guidance.runs",
        "guidance",
        "guidance",
        "(self.value - data)",
        "(self.value - 0.1 * self.__dict__.setdefault('first', data) - data)",
    ),
    ("guidance.posterior", "posterior", "parts", "self.noise_std**2", "0.1 * self.noise_std**2"),
    ("path.ends", "path", "parts", "t_start: float = 1.0", "t_start: float = 0.9"),
    (
        "path.derivatives",
        "path",
        "parts",
        "# here",
        "def _d_sigma(self, t):\n        return 1.1 * torch.ones_like(t)\n",
    ),
    (
        "path.differentiable",
        "path",
        "parts",
        "# here",
        "def drift(self, t):\n        return super().drift(torch.as_tensor(t).detach()) + 0.0 * t\n",
    ),
    (
        "path.monotone",
        "path",
        "parts",
        "# here",
        "def _log_snr(self, t):\n        return super()._log_snr(t) + 0.02 * torch.exp(-(((t - 0.45) / 0.001) ** 2))\n",
    ),
    (
        "path.inverse",
        "path",
        "parts",
        "# here",
        "def _time(self, level):\n        return 0.999 * super()._time(level)\n",
    ),
    ("path.training", "path", "parts", "# here", "kinds: ClassVar = ('data', 'start')"),
    ("path.moments", "path", "parts", "# here", "noise_law: ClassVar = Half()"),
    ("network.shape", "network", "parts", ".reshape(x.shape)", ".reshape(x.shape).squeeze(0)"),
    ("network.rows", "network", "parts", "h = h * self.scale", "h = h + 0.1 * h.mean(0)"),
    ("network.reads", "network", "parts", "self.scale = 1.0", "self.scale, self.reads_conditions = 1.0, ()"),
    (
        "network.saves",
        "network",
        "parts",
        "self.scale = 1.0",
        "self.register_buffer('scale', torch.rand(1), persistent=False)",
    ),
    (
        "network.fresh",
        "network",
        "parts",
        "self.scale = 1.0",
        "self.scale = 1.0 + __import__('random').Random(__import__('os').getpid()).random()",
    ),
    (
        "network.compiled",
        "network",
        "parts",
        "h = h * self.scale",
        "h = h * (1.1 if torch.compiler.is_compiling() else 1.0)",
    ),
    (
        "network.equivariant",
        "sets",
        "parts",
        "level = log_snr[:, None, None].expand(-1, 4, 1)",
        "level = log_snr[:, None, None] + 0.1 * torch.arange(4.0)[None, :, None]",
    ),
    ("network.gradients", "network", "parts", "self.scale = 1.0", "self.scale, self.idle = 1.0, nn.Linear(1, 1)"),
    (
        "data.repeatable",
        "domain",
        "data",
        "    def __len__",
        HASH.format("self.rows.numpy().tobytes()").replace("    def __len__", "    jitter = 0\n\n    def __len__"),
    ),
    (
        "data.disjoint",
        "domain",
        "data",
        "\n    def __len__",
        "        if split == 'test':\n            seen = Rows('train')\n"
        "            self.rows[0], self.labels[0] = seen.rows[0], seen.labels[0]\n\n    def __len__",
    ),
    ("data.dependence", "domain", "data", "    def __len__", "    dependence = -1\n\n    def __len__"),
    ("data.declared", "domain", "data", "\n    def __len__", "        self.labels[-1] = 2\n\n    def __len__"),
    ("data.hash", "domain", "data", "    def __len__", HASH.format("__import__('os').urandom(8)")),
    (
        "data.offline",
        "domain",
        "data",
        "\n    def __len__",
        CONNECT.replace("\n", "\n        ").rstrip() + "\n\n    def __len__",
    ),
    (
        "domain.codec",
        "domain",
        "domain",
        "torch.as_tensor(np.asarray(objects)",
        "1.01 * torch.as_tensor(np.asarray(objects)",
    ),
    ("domain.files", "domain", "domain", "ndmin=2))", "ndmin=2))[::-1]"),
    ("domain.suffixes", "domain", "domain", '        check_suffix(path, self.suffixes, "rows")\n', ""),
    ("domain.picture", "domain", "domain", 'format="png"', 'format="svg"'),
    ("domain.picture", "domain", "domain", ' if "label" in condition.given else []', ""),
    (
        "domain.conditions",
        "domain",
        "domain",
        '                raise UnknownNameError("class", value, CLASSES)',
        "                return {}",
    ),
    ("objective.rows", "objective", "parts", "        return loss\n", "        return loss + 0.1 * loss.mean()\n"),
    (
        "objective.weights",
        "objective",
        "parts",
        "        loss = super()",
        "        call.entry_weights = None\n        loss = super()",
    ),
    ("objective.ends", "objective", "parts", "torch.ones_like(t)", "1 / (t - path.t_end).round(decimals=9)"),
    ("objective.gradients", "objective", "parts", "super().loss(call)", "super().loss(call).detach()"),
    ("objective.random", "objective", "parts", 'call.draws.uniform("jitter").float()', "torch.rand(1)"),
    ("objective.modules", "objective", "parts", "0].square()", "0].square().detach()"),
    ("method.groups", "method", "parts", 'return {"teacher": self.teacher}', 'return {"critic": self.teacher}'),
    ("method.losses", "method", "parts", '"slow": self.slow', '"last": loss / (progress < 0.9), "slow": self.slow'),
    (
        "method.companions",
        "method",
        "parts",
        "        seen = clean @",
        "        self.teacher.bias.data += 1e-3\n        seen = clean @",
    ),
    (
        "method.companions",
        "method",
        "parts",
        "    def order(self)",
        "    def optimiser(self, group, settings):\n"
        "        return super().optimiser(group, settings.model_copy(update={'learning_rate': 0.0}))\n\n"
        "    def order(self)",
    ),
    (
        "method.resume",
        "method",
        "parts",
        "        loss = self.loss(examples)",
        "        self.calls += 1\n        loss = self.loss(examples) * self.calls",
    ),
    ("recipe.parses", "domain with recipe", "recipes", '"name": "mutant/small"', '"name": "mutant/smal"'),
    (
        "recipe.runs",
        "domain with recipe",
        "recipes",
        '"sigma_data": 0.8',
        '"objective": {"name": "denoising", "options": {"weighting": "nope"}}, "sigma_data": 0.8',
    ),
    ("recipe.statistics", "sets", "parts", '{"most": 4}', '{"most": 3}'),
    (
        "recipe.masked",
        "sets",
        "parts",
        "return loss",
        "return loss + (condition.mask is not None) * clean.flatten(1).square().mean(1)",
    ),
    ("kit.complete", "domain", "data", '(self, split="train"', '(self, path, split="train"'),
]
EXTRA = {
    "solver.memory": ("solver", "second) / 4", "second) / 4 + past\n            past = past + 1e-30 * first"),
    "guidance.neutral": ("guidance", "self.strength *", "(self.strength + 0.001) *"),
    **{
        f"metric.{each}": ("__init__", '        example="anydiff_mutant.metric:example",\n', "")
        for each in ("identity", "order", "truth")
    },
    "loading.twice": ("__init__", API, API + "calls = []\n"),
    "data.repeatable": (
        "data",
        "        return self.rows[list(indices)],",
        "        Rows.jitter += 1e-6\n        return self.rows[list(indices)] + Rows.jitter,",
    ),
}
"""A second place that the mutants of these checks need."""
