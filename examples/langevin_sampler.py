"""A sampler that is no plan, in forty lines: annealed Langevin dynamics (Song and Ermon 2019, arXiv:1907.05600).

Try `anydiff --plugins-dir examples check langevin_sampler`, or `anydiff --plugins-dir examples sample images/fashion
--solver langevin_sampler --option levels=50`.
"""

from dataclasses import dataclass

import torch

from anydiff import hookimpl
from anydiff.samplers import Sampler


@hookimpl
def register_samplers(register):
    register(
        "langevin_sampler", "annealed Langevin dynamics", "langevin_sampler:AnnealedLangevin", stochastic=True,
        source="arXiv:1907.05600",
    )  # fmt: skip


@dataclass
class AnnealedLangevin(Sampler):
    """In y = x/α at noise level κ: y <- y + η (D - y) + sqrt(2 η) κ z, ``steps`` times at each of ``levels`` κ."""

    levels: int = 100
    steps: int = 4
    size: float = 0.3
    nfe: int = 0

    @torch.no_grad()
    def draw(self, chunk):
        path, calls = chunk.path, 0
        y = chunk.first / path.alpha(path.t_start)
        for t in torch.linspace(path.t_start, path.t_end, self.levels).tolist():
            alpha, kappa = path.alpha(t), path.sigma(t) / path.alpha(t)
            for _ in range(self.steps):
                calls += 1
                data = chunk.denoiser(alpha * y, t, chunk.condition)
                chunk.tell(calls, t, alpha * y, data, "data")
                noise = chunk.noise.draw(chunk.samples, calls, y.dtype, y.device)
                y = y + self.size * (data - y) + (2 * self.size) ** 0.5 * kappa * noise
        self.nfe = calls
        return y
