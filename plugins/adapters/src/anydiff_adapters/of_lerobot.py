"""LeRobot: the action network of ``DiffusionPolicy`` under its scheduler, which is one of diffusers.

Written by the library's published conventions: ``policy.diffusion.unet(actions [B, T, A], timestep, global_cond=...)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters import Adapter, Example
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import ForeignNetwork
from anydiff.states import Condition, VectorCondition
from anydiff_adapters.diffusers_schedulers import conventions
from anydiff_adapters.libraries import imported
from anydiff_adapters.of_diffusers import EXTRA, denoiser


def _call(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    output: Tensor = network(x, times, global_cond=given.get("observation"))
    return output


class LeRobot(Adapter):
    """``DiffusionPolicy``: a state is the plan of actions ``[horizon, action]``, the condition its observation.

    The condition ``observation`` is what ``policy.diffusion`` encodes of observations (``global_cond``), one vector.
    """

    def wrap(self, network: Any, schedule: Any = None, *, width: int | None = None) -> NetworkDenoiser:
        """A denoiser of a policy's actions.

        Args:
            network: the policy, or its ``diffusion``.
            schedule: in place of the policy's ``noise_scheduler``.
            width: numbers of the encoded observation; None where the network reads none.

        Raises:
            AnydiffError: no policy of this kind, or a scheduler that is not known.
        """
        inner = getattr(network, "diffusion", network)
        if not hasattr(inner, "unet") or (schedule is None and not hasattr(inner, "noise_scheduler")):
            raise AnydiffError(
                f"{type(network).__name__} has no unet and noise_scheduler, so it is no DiffusionPolicy; wrap the "
                "policy."
            )
        told = conventions(inner.noise_scheduler if schedule is None else schedule)
        conditions: dict[str, Condition] = {} if width is None else {"observation": VectorCondition(width)}
        made = ForeignNetwork(inner.unet, _call, conditions=conditions)
        return denoiser(made, told, _shape(getattr(inner, "config", None)))

    def example(self) -> Example:
        """A stand-in of the policy with the published faces: a linear network in plans of actions."""
        library = imported("diffusers", "the example of LeRobot", EXTRA)
        scheduler = library.DDPMScheduler(
            num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", prediction_type="epsilon", clip_sample=False
        )
        policy, unet = _Policy(scheduler), _Unet()
        times = (5, 50, 90)

        def data(x: Tensor, t: float) -> Tensor:
            with torch.no_grad():
                output = unet(x, torch.tensor([int(t)]))
            clean: Tensor = scheduler.step(output, int(t), x).pred_original_sample
            return clean

        kept = [float(scheduler.alphas_cumprod[t]) for t in times]
        levels = tuple((each**0.5, (1 - each) ** 0.5) for each in kept)
        states = torch.linspace(-1, 1, 24).reshape(3, 4, 2)
        return Example(policy, None, states, tuple(map(float, times)), levels, data)


def _shape(config: Any) -> tuple[int, ...] | None:
    horizon, action = getattr(config, "horizon", None), getattr(config, "action_feature", None)
    return None if horizon is None or action is None else (int(horizon), int(action.shape[0]))


class _Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.linspace(-0.5, 0.5, 4).reshape(2, 2))

    def forward(self, x: Tensor, timestep: Tensor, global_cond: Tensor | None = None) -> Tensor:
        return x @ self.get_buffer("matrix") + torch.cos(timestep.reshape(-1, 1, 1) / 10)


class _Policy(nn.Module):
    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self.diffusion = nn.Module()
        self.diffusion.unet = _Unet()
        self.diffusion.noise_scheduler = scheduler
