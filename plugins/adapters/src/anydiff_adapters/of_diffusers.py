"""diffusers: U-Nets and DiT with the conventions of their schedulers, and folders that ``save_pretrained`` wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters import Adapter, Example, ForeignModel
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import ForeignNetwork
from anydiff.registry import registry
from anydiff.states import ArrayCondition, ClassCondition, Condition, StateSpec
from anydiff_adapters.diffusers_folders import read_folder
from anydiff_adapters.diffusers_schedulers import Conventions, conventions
from anydiff_adapters.libraries import imported

EXTRA = "anydiff-adapters[diffusers]"
TOKENS = 77
"""Of a text condition, as CLIP gives them; a configuration does not say."""


def _sample(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """``network(sample, timestep, ...)``; a learned variance, which doubles the channels, is left out."""
    names = {"label": "class_labels", "context": "encoder_hidden_states"}
    output: Tensor = network(x, times, **{names[key]: value for key, value in given.items()}, return_dict=False)[0]
    return output[:, : x.shape[1]] if output.shape[1] == 2 * x.shape[1] else output


RUNGS = {"solver": "unipc-2", "grid": "log-snr"}
"""How models of a ladder are sampled: of the solvers and grids tried, the least error at 10 and 20 calls together."""

CALLS: dict[str, Callable[..., Tensor]] = {
    "UNet1DModel": _sample,
    "UNet2DModel": _sample,
    "UNet2DConditionModel": _sample,
    "UNet3DConditionModel": _sample,
    "DiTTransformer2DModel": _sample,
}
"""Class of a network -> how it is called."""
_REFUSED = {
    "class_embed_type": (None,),
    "addition_embed_type": (None, "null"),
    "encoder_hid_dim_type": (None,),
    "time_cond_proj_dim": (None,),
    "dual_cross_attention": (False, None),
}
"""Option of a network -> the values that are modelled."""


class Diffusers(Adapter):
    """Networks of diffusers."""

    def wrap(self, network: Any, schedule: Any = None, *, nulls: Mapping[str, Any] | None = None) -> NetworkDenoiser:
        """A denoiser of a network with its scheduler.

        What a scheduler does to predictions while it samples (``clip_sample``, ``thresholding``) is no part of the
        model: add the guidance ``clamp`` or ``dynamic-threshold`` where it is wanted.

        Args:
            network: of a class of :data:`CALLS`.
            schedule: a scheduler of diffusers; its configuration says path, prediction and times.
            nulls: what stands for an absent condition, ``{"label": 10}`` say.

        Raises:
            AnydiffError: no scheduler, or a class or an option that is not modelled.
        """
        if schedule is None:
            raise AnydiffError(
                f"{type(network).__name__} comes without its scheduler, which says what it predicts; call "
                "anydiff.wrap(network, scheduler)."
            )
        kind = type(network).__name__
        config = dict(network.config)
        made = wrapped(network, kind, config, nulls=nulls)
        return denoiser(made, conventions(schedule), shape_of(kind, config))

    def read(self, folder: Path) -> ForeignModel:
        """The model of a folder with ``config.json`` and a scheduler, or with ``model_index.json``."""
        imported("diffusers", f"loading {str(folder)!r}", EXTRA)
        found = read_folder(folder, CALLS)
        shape = shape_of(found.kind, found.config)
        if shape is None:
            raise AnydiffError(
                f"the configuration in {str(folder)!r} says no sample_size, so the shape of a state is not known; add "
                '"sample_size" to its config.json.'
            )
        told = found.conventions
        reads, nulls = conditions(found.kind, found.config)
        classes = {name: kind.classes for name, kind in reads.items() if isinstance(kind, ClassCondition)}
        arrays = {name: list(kind.shape) for name, kind in reads.items() if isinstance(kind, ArrayCondition)}
        options = {"shape": list(shape), "classes": classes, "arrays": arrays}
        recipe = {
            "name": folder.name or "model",
            "help": f"{found.kind} of diffusers with its {told.scheduler}",
            "domain": {"name": "adapters/arrays", "options": options},
            "dataset": {"name": "adapters/files", "options": {}},
            "network": {
                "name": "adapters/network",
                "options": {"library": "diffusers", "kind": found.kind, "config": found.config},
            },
            "path": told.path,
            "parametrization": told.predicts,
            "sigma_data": told.sigma_data,
            "training": {"steps": 1, "condition_dropout": 0.1 if nulls else 0.0},
            "sampling": {"guidance": list(told.guidance), **(RUNGS if told.path["name"] == "ladder" else {})},
        }
        tensors = {f"network.{name}": value for name, value in found.tensors.items()}
        return ForeignModel(recipe, tensors, found.metadata)

    def example(self) -> Example:
        """A tiny U-Net of two sizes whose scheduler is DDIM's."""
        library = imported("diffusers", "the example of diffusers", EXTRA)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = library.UNet2DModel(
                sample_size=8, in_channels=1, out_channels=1, block_out_channels=(4, 8), layers_per_block=1,
                norm_num_groups=2, attention_head_dim=4, down_block_types=("DownBlock2D",) * 2,
                up_block_types=("UpBlock2D",) * 2,
            ).eval()  # fmt: skip
            states = torch.randn(3, 1, 8, 8)
        scheduler = library.DDIMScheduler(clip_sample=False, prediction_type="v_prediction")
        scheduler.set_timesteps(1000)
        times = (20, 400, 900)

        def data(x: Tensor, t: float) -> Tensor:
            with torch.no_grad():
                output = network(x, int(t)).sample
            clean: Tensor = scheduler.step(output, int(t), x).pred_original_sample
            return clean

        kept = [float(scheduler.alphas_cumprod[t]) for t in times]
        levels = tuple((each**0.5, (1 - each) ** 0.5) for each in kept)
        return Example(network, scheduler, states, tuple(map(float, times)), levels, data)


def denoiser(network: ForeignNetwork, told: Conventions, shape: tuple[int, ...] | None) -> NetworkDenoiser:
    """The denoiser of a network under a scheduler's conventions."""
    path = registry().build("paths", told.path["name"], **told.path["options"])
    spec = None if shape is None else StateSpec.single(shape, name="state")
    return NetworkDenoiser(network, path, told.predicts, told.sigma_data, spec).eval()


def shape_of(kind: str, config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of a state by a configuration; None where it names no size."""
    size, channels = config.get("sample_size"), int(config.get("in_channels") or 1)
    if size is None:
        return None
    if kind == "UNet1DModel":
        return (channels, int(size))
    edges = (int(size),) * 2 if isinstance(size, int) else tuple(int(each) for each in size)
    return (channels, *edges)


def conditions(kind: str, config: Mapping[str, Any]) -> tuple[dict[str, Condition], dict[str, Any]]:
    """(conditions, what stands for an absent one) that a network of this configuration reads."""
    if kind == "DiTTransformer2DModel":
        count = int(config.get("num_embeds_ada_norm") or 1000)
        return {"label": ClassCondition(count)}, {"label": count}
    found: dict[str, Condition] = {}
    if config.get("num_class_embeds"):
        found["label"] = ClassCondition(int(config["num_class_embeds"]))
    if kind in ("UNet2DConditionModel", "UNet3DConditionModel"):
        found["context"] = ArrayCondition((TOKENS, int(config.get("cross_attention_dim") or 1280)))
    return found, {}


def wrapped(
    network: nn.Module, kind: str, config: Mapping[str, Any], nulls: Mapping[str, Any] | None = None
) -> ForeignNetwork:
    """A network under our protocol.

    Raises:
        UnknownNameError: a class that no call is known of.
        AnydiffError: an option that is not modelled.
    """
    if kind not in CALLS:
        raise UnknownNameError("class of diffusers", kind, CALLS)
    for name, modelled in _REFUSED.items():
        if config.get(name, modelled[0]) not in modelled:
            raise AnydiffError(
                f"the option {name} of {kind} is {config[name]!r}, which is not modelled; wrap the network by "
                "anydiff.wrap(network, like='module', ..., call=...), which says how it is called."
            )
    reads, own = conditions(kind, config)
    return ForeignNetwork(network, CALLS[kind], conditions=reads, nulls={**own, **(nulls or {})})


def build(kind: str, config: Mapping[str, Any], told: Mapping[str, Condition]) -> ForeignNetwork:
    """A network of this configuration with fresh weights; ``told`` are the domain's conditions.

    Raises:
        UnknownNameError: no such class.
        AnydiffError: diffusers is not installed, or an option is not modelled.
    """
    library = imported("diffusers", f"a network {kind}", EXTRA)
    if kind not in CALLS:
        raise UnknownNameError("class of diffusers", kind, CALLS)
    made: nn.Module = getattr(library, kind).from_config(dict(config))
    return wrapped(made, kind, config)
