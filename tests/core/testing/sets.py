"""A correct plugin whose states have masks: sets of at most four points, with a network that heeds the mask."""

INIT = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_domains(register):
    register("mutant", "sets of points", "anydiff_mutant.parts:Sets", beside_codec=["most"])

@hookimpl
def register_datasets(register):
    register("mutant/sets", "two to four points", "anydiff_mutant.parts:Data")

@hookimpl
def register_networks(register):
    register("mutant/net", "each point sees the mean of all", "anydiff_mutant.parts:Net", equivariant="nodes")

@hookimpl
def register_objectives(register):
    register("mutant/loss", "denoising", "anydiff_mutant.parts:Loss")

@hookimpl
def register_recipes(register):
    register("mutant/small", "sets", "anydiff_mutant.parts:RECIPE")
"""
PARTS = """
import numpy as np
import torch
from torch import nn
from anydiff.files import atomic_path, check_suffix
from anydiff.networks import ConditionEncoder
from anydiff.objectives import Denoising
from anydiff.data.dataset import ArrayDataset
from anydiff.domains import Domain
from anydiff.states import UNCONDITIONAL, StateSpec

class Sets(Domain):
    name, suffixes = "mutant", (".csv",)
    spec = StateSpec.single((4, 2), name="points", mask_axes=(0,))

    def __init__(self, most=None):
        self.most = most

    def encode(self, objects):
        return torch.as_tensor(np.asarray(objects), dtype=torch.float32)

    def decode(self, states, condition=None):
        return list(states.double().numpy())

    def read(self, path):
        return list(np.loadtxt(path, delimiter=",", ndmin=2).reshape(-1, 4, 2))

    def write(self, objects, path):
        check_suffix(path, self.suffixes, "sets")
        with atomic_path(path) as temporary:
            np.savetxt(temporary, np.asarray(objects).reshape(-1, 8), delimiter=",")

    def draw(self, objects, path, titles=None):
        from matplotlib.figure import Figure

        figure = Figure()
        figure.gca().scatter(*np.asarray(objects).reshape(-1, 2).T)
        figure.savefig(path, format="png")

class Data(ArrayDataset):
    name, domain = "mutant/sets", Sets()

    def __init__(self, split="train"):
        random = np.random.default_rng(split == "test")
        mask = np.arange(4) < random.integers(2, 5, (100, 1))
        points = random.normal(size=(100, 4, 2)) * mask[:, :, None]
        super().__init__(points, mask=mask, loss_weight=mask[:, :, None])

    statistics = property(lambda self: {"most": int(self.batch(range(100))[1].mask.sum(1).max())})

class Net(nn.Module):
    def __init__(self, spec, conditions=None):
        super().__init__()
        self.entry, self.exit = nn.Linear(5, 16), nn.Linear(16, 2)
        self.encoder = ConditionEncoder(conditions or {}, 16)

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        mask = torch.ones_like(x[:, :, :1]) if condition.mask is None else condition.mask[:, :, None].to(x.dtype)
        mean = (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        level = log_snr[:, None, None].expand(-1, 4, 1)
        h = self.entry(torch.cat([x, mean.expand_as(x), level], 2)) + self.encoder(len(x), condition)[:, None]
        return self.exit(torch.tanh(h)) * mask

class Loss(Denoising):
    def __call__(self, denoiser, clean, noise, uniform, condition=UNCONDITIONAL):
        loss = super().__call__(denoiser, clean, noise, uniform, condition)
        return loss

RECIPE = {
    "name": "mutant/small", "domain": {"name": "mutant", "options": {"most": 4}}, "dataset": "mutant/sets",
    "network": "mutant/net", "objective": "mutant/loss",
    "training": {"steps": 2, "batch_size": 4},
}
"""
