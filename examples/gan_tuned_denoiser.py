"""A training method of two modules and two optimisers: a discriminator tunes the denoiser.

In each step the discriminator learns to tell clean states from predictions of them at small noise (the hinge loss of
Lim and Ye 2017, arXiv:1705.02894), then the network minimises the recipe's objective and what gives it away (compare
the denoising diffusion GAN of Xiao et al. 2021, arXiv:2112.07804). Try
`anydiff --plugins-dir examples train two_moons/small --set method=gan_tuned_denoiser --out tuned`.
"""

import math
from dataclasses import replace

import torch
from torch import nn

from anydiff import hookimpl
from anydiff.training import TrainingMethod


@hookimpl
def register_training_methods(register):
    register("gan_tuned_denoiser", "a discriminator tunes the denoiser", "gan_tuned_denoiser:GanTuned")


class GanTuned(TrainingMethod):
    """``weight`` is that of the adversarial term, which grows to it; ``rate`` is the discriminator's learning rate."""

    def __init__(self, denoiser, objective, weight=0.01, rate=1e-3, width=64):
        super().__init__(denoiser, objective)
        size = math.prod(denoiser.spec.shape)
        self.weight, self.rate = weight, rate
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.SiLU(), nn.Linear(width, 1))

    def modules(self):
        return {**super().modules(), "discriminator": self.discriminator}

    def order(self):
        return [["discriminator"], ["network"]]

    def optimiser(self, group, settings):
        chosen = super().optimiser(group, settings)
        return replace(chosen, learning_rate=self.rate) if group == "discriminator" else chosen

    def predicted(self, examples):
        path, clean = self.denoiser.path, examples.clean
        t = torch.full((len(clean),), path.t_end + 0.2 * (path.t_start - path.t_end), dtype=torch.float64)
        noise = examples.noise[:: len(examples.noise) // len(clean)]
        return self.denoiser(
            path.mix(t.to(clean.device), x0=clean, noise=noise), t.to(clean.device), examples.condition
        )

    def step(self, examples, progress, groups):
        predicted = self.predicted(examples)
        if "discriminator" in groups:
            real, made = self.discriminator(examples.clean), self.discriminator(predicted.detach())
            return {"discriminator": {"real": (1 - real).relu()[:, 0], "made": (1 + made).relu()[:, 0]}}
        deceit = -progress * self.weight * self.discriminator(predicted)[:, 0]
        return {"network": {"objective": self.loss(examples), "deceit": deceit}}
