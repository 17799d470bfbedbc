"""MONAI: ``DiffusionModelUNet`` in two and three dimensions with MONAI's schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters import Adapter, Example, denoiser_of
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import ForeignNetwork
from anydiff.paths import Flow, foreign
from anydiff.registry import registry
from anydiff.states import ArrayCondition, ClassCondition, Condition
from anydiff_adapters.libraries import imported
from anydiff_adapters.schedules import kind_of, ladder

EXTRA = "anydiff-adapters[monai]"


def _call(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    names = {"label": "class_labels", "context": "context"}
    output: Tensor = network(x, times, **{names[name]: value for name, value in given.items()})
    return output


class Monai(Adapter):
    """``DiffusionModelUNet`` with a DDPM, DDIM, PNDM or rectified-flow scheduler of MONAI."""

    def wrap(
        self,
        network: Any,
        schedule: Any = None,
        *,
        shape: tuple[int, ...] | None = None,
        context: tuple[int, int] | None = None,
        nulls: Mapping[str, Any] | None = None,
    ) -> NetworkDenoiser:
        """A denoiser of a U-Net with its scheduler.

        Args:
            network: a ``DiffusionModelUNet``.
            schedule: of ``monai.networks.schedulers``.
            shape: of a state.
            context: (tokens, width) of the condition ``context``, of a network with cross attention.
            nulls: names -> what stands for an absent condition.

        Raises:
            AnydiffError: no scheduler, or one that is not known; a network with cross attention without its context.
        """
        if schedule is None:
            raise AnydiffError(
                f"{type(network).__name__} comes without its scheduler, which says what it predicts; call "
                "anydiff.wrap(network, scheduler)."
            )
        conditions: dict[str, Condition] = {}
        if getattr(network, "num_class_embeds", None):
            conditions["label"] = ClassCondition(int(network.num_class_embeds))
        if getattr(network, "with_conditioning", False):
            if context is None:
                raise AnydiffError(
                    f"{type(network).__name__} was built with_conditioning; say the shape of its context: "
                    "anydiff.wrap(network, scheduler, context=(tokens, width))."
                )
            conditions["context"] = ArrayCondition(context)
        made = ForeignNetwork(network, _call, conditions=conditions, nulls=nulls)
        if type(schedule).__name__ == "RFlowScheduler":
            told = foreign(Flow(), "time", float(schedule.num_train_timesteps))
            made.sign = -1.0  # it predicts x_0 - ε
            return denoiser_of(made, told, "flow", shape=shape)
        if not hasattr(schedule, "betas") or not hasattr(schedule, "prediction_type"):
            raise AnydiffError(
                f"{type(schedule).__name__} has no betas and no prediction_type; give a DDPM, DDIM, PNDM or RFlow "
                "scheduler of MONAI."
            )
        path = registry().build("paths", "ladder", **ladder(schedule.betas.double())["options"])
        kind = kind_of(schedule.prediction_type, f"prediction_type of {type(schedule).__name__}")
        return denoiser_of(made, path, kind, shape=shape)

    def example(self) -> Example:
        """A small U-Net in three dimensions that predicts the noise."""
        imported("monai", "the example of MONAI", EXTRA)
        from monai.networks.nets import DiffusionModelUNet
        from monai.networks.schedulers import DDIMScheduler

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = DiffusionModelUNet(
                spatial_dims=3, in_channels=1, out_channels=1, channels=(4, 8), attention_levels=(False, False),
                num_res_blocks=1, norm_num_groups=2,
            ).eval()  # fmt: skip
            for parameter in network.parameters():  # the last layer begins at zero
                parameter.data.add_(0.05 * torch.randn_like(parameter))
            states = torch.randn(3, 1, 8, 8, 8)
        scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=False)
        scheduler.set_timesteps(1000)
        times = (20, 400, 900)

        def data(x: Tensor, t: float) -> Tensor:
            with torch.no_grad():
                output = network(x, torch.tensor([int(t)]))
                clean: Tensor = scheduler.step(output, int(t), x)[1]
            return clean

        kept = [float(scheduler.alphas_cumprod[t]) for t in times]
        levels = tuple((each**0.5, (1 - each) ** 0.5) for each in kept)
        return Example(network, scheduler, states, tuple(map(float, times)), levels, data)
