"""A guidance that remembers: adaptive projected guidance (Sadat et al. 2025, arXiv:2410.02416), with its momentum.

Try `anydiff --plugins-dir examples check guidance_with_memory`, or `anydiff --plugins-dir examples sample
images/fashion --condition label=sneaker --guidance guidance_with_memory --guidance-option scale=8`.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from anydiff import hookimpl
from anydiff.guidance import Guidance, with_and_without


@hookimpl
def register_guidance(register):
    register(
        "guidance_with_memory", "adaptive projected guidance with momentum", "guidance_with_memory:Projected",
        neutral={"scale": 1.0},
    )  # fmt: skip


@dataclass
class Projected(Guidance):
    """D <- D_c + (w - 1) (v - (1 - η) v_parallel), v of norm <= r from Δ <- D_c - D_∅ + β Δ, Δ of the calls before.

    v_parallel is the part of v along D_c, which a large w would saturate. β < 0 pushes away from earlier directions.
    """

    scale: float = 4.0
    momentum: float = -0.5
    largest: float = 15.0  # r
    parallel: float = 0.0  # η
    running: Tensor | float = field(default=0.0, init=False, repr=False, compare=False)

    needs_condition = True

    def for_run(self, samples):
        return replace(self)  # the same options and nothing remembered

    def hides(self, given):
        return () if self.scale == 1 else tuple(given)

    def data(self, denoiser, x, t, condition):
        if self.scale == 1:
            return denoiser(x, t, condition)
        conditional, unconditional = with_and_without(denoiser, x, t, condition)
        self.running = conditional - unconditional + self.momentum * self.running
        shift, along = self.running.flatten(1), torch.nn.functional.normalize(conditional.flatten(1))
        shift = shift * (self.largest / shift.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        parallel = (shift * along).sum(1, keepdim=True) * along
        return conditional + (self.scale - 1) * (shift - (1 - self.parallel) * parallel).reshape(x.shape)
