"""What a scheduler of diffusers says of the model: its path, what the network predicts and what it is told."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from anydiff.denoisers import PredictionKind
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff_adapters.schedules import kind_of, ladder

DISCRETE = (
    "DDPMScheduler",
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
)
"""Of a table of betas."""
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
_NAMED = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
_MODELLED: dict[str, tuple[Any, ...]] = {
    "rescale_betas_zero_snr": (False,),
    "timestep_type": ("discrete",),
    "use_flow_sigmas": (False,),
    "invert_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "shift_terminal": (None,),
}
"""Option that changes what the model is -> the values that are modelled. All others say how the scheduler samples."""


@dataclass(frozen=True)
class Conventions:
    """What a scheduler says.

    Attributes:
        scheduler: its class.
        path: as a part of a recipe.
        predicts: the kind of prediction.
        sigma_data: of the data.
        guidance: what it does to predictions while sampling, as parts of a recipe.
    """

    scheduler: str
    path: dict[str, Any]
    predicts: PredictionKind
    sigma_data: float = 1.0
    guidance: tuple[dict[str, Any], ...] = field(default=())


def from_config(library: Any, config: Mapping[str, Any], where: str) -> Conventions:
    """The conventions of a stored configuration; ``where`` names it in errors.

    Raises:
        UnknownNameError: a scheduler that is not known.
        AnydiffError: an option that the scheduler of this version does not have.
    """
    name = str(config.get("_class_name"))
    if name not in (*DISCRETE, *FLOWS, *EDM):
        raise UnknownNameError(f"scheduler in {where}:", name, (*DISCRETE, *FLOWS, *EDM))
    kind = getattr(library, name)
    known = inspect.signature(kind.__init__).parameters
    for option in config:
        if not option.startswith("_") and option not in known:
            raise AnydiffError(
                f"{where} has the option {option!r}, which {name} of the installed diffusers does not know; "
                "install the version that wrote it, or remove the option if it changes nothing."
            )
    return conventions(kind.from_config(dict(config)))


def conventions(scheduler: Any) -> Conventions:
    """The conventions of a scheduler.

    Raises:
        UnknownNameError: a class or a kind of prediction that is not known.
        AnydiffError: an option that is not modelled, or a table that is not what its options say.
    """
    name = type(scheduler).__name__
    if name not in (*DISCRETE, *FLOWS, *EDM):
        raise UnknownNameError("scheduler of diffusers", name, (*DISCRETE, *FLOWS, *EDM))
    config = dict(scheduler.config)
    for option, modelled in _MODELLED.items():
        if option in config and config[option] not in modelled:
            raise AnydiffError(
                f"the option {option} of {name} is {config[option]!r}, which changes what the network was trained for "
                f"and is not modelled; known is {modelled[0]!r}."
            )
    if name in FLOWS:
        return _flow(name, config)
    return _edm(name, config) if name in EDM else _discrete(name, scheduler, config)


def _flow(name: str, config: Mapping[str, Any]) -> Conventions:
    shift = float(config.get("shift") or 1.0)
    inner = {"name": "flow"} if shift == 1.0 else {"name": "flow-shifted", "options": {"stretch": shift}}
    told = {"path": inner, "time": "sigma", "factor": float(config.get("num_train_timesteps") or 1000)}
    return Conventions(name, {"name": "foreign", "options": told}, "flow")


def _edm(name: str, config: Mapping[str, Any]) -> Conventions:
    if config.get("prediction_type", "epsilon") != "epsilon":
        raise AnydiffError(
            f"the option prediction_type of {name} is {config['prediction_type']!r}, which is not modelled; known is "
            "'epsilon', EDM's F."
        )
    ends = {"t_start": float(config["sigma_max"]), "t_end": float(config["sigma_min"])}
    told = {
        "path": {"name": "edm", "options": ends}, "time": "log-noise-level", "factor": 0.25, "sees": "unit"
    }  # fmt: skip
    return Conventions(name, {"name": "foreign", "options": told}, "edm", float(config["sigma_data"]))


def _discrete(name: str, scheduler: Any, config: Mapping[str, Any]) -> Conventions:
    schedule = _NAMED.get(str(config.get("beta_schedule")))
    if config.get("trained_betas") is not None or schedule is None:
        path = ladder(scheduler.betas.double())
    else:
        options = {
            "schedule": schedule,
            "beta_start": float(config["beta_start"]),
            "beta_end": float(config["beta_end"]),
            "steps": int(config["num_train_timesteps"]),
        }
        path = {"name": "ladder", "options": options}
    _agree(name, path, scheduler.alphas_cumprod)
    kind = kind_of(config.get("prediction_type", "epsilon"), f"prediction_type of {name}")
    return Conventions(name, path, kind, guidance=_limits(config))


def _agree(name: str, path: Mapping[str, Any], table: torch.Tensor) -> None:
    """Refuse a table of the scheduler that is another than that of the path."""
    from anydiff.registry import registry

    ours = registry().build("paths", path["name"], **path["options"])
    times = torch.arange(len(table), dtype=torch.float64)
    found, wanted = ours.log_snr(times), torch.logit(table.double()) / 2
    off = float((found - wanted).abs().max()) if len(times) == ours.steps else float("inf")
    if not off < 1e-3:
        raise AnydiffError(
            f"alphas_cumprod of {name} is not what its options say (log-SNR off by {off:.3g}); give the scheduler as "
            "trained_betas."
        )


def _limits(config: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    if config.get("thresholding"):
        options = {
            "quantile": float(config["dynamic_thresholding_ratio"]), "floor": float(config["sample_max_value"])
        }  # fmt: skip
        return ({"name": "dynamic-threshold", "options": options},)
    if config.get("clip_sample"):
        most = float(config.get("clip_sample_range") or 1.0)
        return ({"name": "clamp", "options": {"low": -most, "high": most}},)
    return ()
