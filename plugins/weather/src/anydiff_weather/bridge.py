"""A bridge from a biased member to the truth: post-processing by a stochastic interpolant, on the simulator.

The path begins at a member of the biased system and ends at the truth of its case (Albergo et al. 2023, arXiv
2303.08797, paired). The network is told the seed members, of which the start is one. Given them the start is a single
point, so it is the noise on the way (``epsilon`` above 0) that makes an ensemble of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from anydiff.domains import Domain
from anydiff.domains.kit import Split, content_hash
from anydiff.recipes import Recipe
from anydiff.states import Conditioning
from anydiff_weather.data import Lorenz96Cases
from anydiff_weather.recipes import METRICS


class Lorenz96Bridge(Lorenz96Cases):
    """Cases of the simulator with the truth as the state and a seed member as the start of a bridge.

    Args:
        split: ``"train"`` (every choice of seeds among 5 members, in both orders) or ``"test"`` (the first seeds).
        system: whose members are the starts, ``"biased"`` or ``"perfect"``.
        seeds: K; None for the domain's. The start is the first of them.
        domain: the recipe's; None makes one of 2 seeds.
    """

    def __init__(
        self,
        split: Split = "train",
        system: Literal["perfect", "biased"] = "biased",
        seeds: int | None = None,
        domain: Domain | None = None,
    ) -> None:
        super().__init__(split, system, seeds, 0, 1, domain)
        self.name = "weather/lorenz96-bridge"
        if split == "train":  # the network does not heed the order of the seeds, but each of them is a start
            self._seeds = torch.cat([self._seeds, self._seeds.flip(1)])
            self._label = torch.cat([self._label, self._label])

    @functools.cached_property
    def hash(self) -> str:
        """sha256 of all fields, days and choices, and of what the start is."""
        return content_hash(super().hash, "the first seed is the start")

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """Truths, their conditions, and the first seed member as the source ``start``."""
        states, condition = super().batch(indices)
        return states, replace(condition, sources={"start": condition.given["members"][:, 0]})


def gpp_bridge() -> Recipe:
    """A biased member becomes the truth: velocity and noise from one network with two exits."""
    recipe = {
        "name": "weather/gpp-bridge",
        "help": "a member of a biased Lorenz-96 ensemble becomes the truth: a bridge, paired",
        "domain": {"name": "weather", "options": {"climatology": "lorenz96", "seeds": 2}},
        "dataset": {"name": "weather/lorenz96-bridge", "options": {"system": "biased", "seeds": 2}},
        "network": {
            "name": "heads",
            "options": {
                "predicts": ["flow", "noise"],
                "backbone": "weather/set-axial-attention",
                "options": {"width": 48, "blocks": 2, "heads": 4, "periodic": [False, True]},
            },
        },
        "path": {"name": "interpolant", "options": {"scale": 1.0}},
        "parametrization": ["flow", "noise"],
        "sigma_data": 1.0,
        "objective": "interpolant",
        "training": {
            "steps": 1100,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.998,
            "checkpoint_every": 250,
        },
        "sampling": {"solver": {"name": "interpolant", "options": {"epsilon": 1.0}}, "nfe": 20, "grid": "time"},
        "metrics": list(METRICS),
    }
    return Recipe.parse(recipe, "recipe 'weather/gpp-bridge'")
