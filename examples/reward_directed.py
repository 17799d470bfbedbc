"""Training for a reward that is known of few examples: a function fitted to these labels all others (two moons).

Try `anydiff --plugins-dir examples train reward_directed/small --out runs/directed`, then
`anydiff --plugins-dir examples sample runs/directed --condition reward=1 --out high.csv`.
"""

import torch

from anydiff import hookimpl
from anydiff.data import PseudoLabelled, rewarded
from anydiff.recipes import load_recipe
from anydiff.registry import registry

FEW, ERROR = 50, 0.1  # examples whose reward somebody measured, and by how much these measurements err


@hookimpl
def register_domains(register):
    register("reward_directed", "points with a reward", "reward_directed:points")


@hookimpl
def register_datasets(register):
    register("reward_directed/moons", "two moons, labelled by a fitted reward", "reward_directed:moons")


@hookimpl
def register_recipes(register):
    register("reward_directed/small", "two moons' recipe, asked for rewards", "reward_directed:small")


def measured(values):  # what a laboratory would find out, at some cost
    return values[:, 1] + 0.5 * values[:, 0]


def points(reward_mean=0.0, reward_std=1.0):
    return rewarded(registry().build("domains", "two_moons"), reward_mean, reward_std)


def moons(split="train", reward_mean=None, reward_std=None):
    if split == "test" and reward_mean is None:
        return moons(split, **moons().statistics)  # made once, from the training split
    few = registry().build("datasets", "two_moons/points", split="train").batch(range(FEW))[0].double()
    noise = ERROR * torch.randn(FEW, generator=torch.Generator().manual_seed(0)).double()
    # Rounded, since the last digits differ from machine to machine and every label follows from these numbers.
    weights = torch.linalg.lstsq(few, (measured(few) + noise)[:, None]).solution[:, 0].round(decimals=4).float()
    everything = registry().build("datasets", "two_moons/points", split=split)
    return PseudoLabelled(everything, lambda values: values @ weights, ERROR, 0, reward_mean, reward_std)


def small():
    recipe = load_recipe("two_moons/small").model_dump(mode="json")
    domain = {"name": "reward_directed", "options": dict(moons().statistics)}
    parts = {"domain": domain, "dataset": "reward_directed/moons", "metrics": []}
    return {**recipe, "name": "reward_directed/small", **parts}
