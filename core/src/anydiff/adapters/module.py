"""Any module of torch, by what its options say of path, prediction and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters.adapter import Adapter, Example
from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError
from anydiff.networks.foreign import Call, ForeignNetwork
from anydiff.paths import Flow
from anydiff.paths.foreign import foreign
from anydiff.registry import check_options
from anydiff.states import Condition, StateSpec


@dataclass(frozen=True)
class Description:
    """What a module is.

    Attributes:
        path: as :func:`anydiff.paths.foreign` takes it.
        predicts: the kind of its prediction: noise, data, velocity, flow, ...
        time: what it is told; ``factor`` times that.
        factor: on the time.
        sees: state, scaled or unit.
        sigma_data: of the data, where the prediction or the scaling needs it.
        sign: factor on its answer; -1 for a velocity from noise to data.
        shape: of one state.
        conditions: name -> kind, which become keywords of the call.
        nulls: name -> what stands for a condition that is absent.
        call: ``(network, x, times, conditions) -> output``.
        whole_times: refuse times between whole ones.
    """

    path: Any = None
    predicts: PredictionKind | None = None
    time: str = "time"
    factor: float = 1.0
    sees: str = "state"
    sigma_data: float = 1.0
    sign: float = 1.0
    shape: tuple[int, ...] | None = None
    conditions: Mapping[str, Condition] | None = None
    nulls: Mapping[str, Any] | None = None
    call: Call | None = None
    whole_times: bool = False


class ModuleAdapter(Adapter):
    """``network(x, times, **conditions)`` of any origin.

    >>> anydiff.wrap(net, path="flow", predicts="flow", time="from-noise", sign=-1.0)   # dx/dt from noise to data
    """

    def wrap(self, network: Any, schedule: Any = None, **options: Any) -> NetworkDenoiser:
        """A denoiser of any module.

        Args:
            network: called as ``network(x, times, **conditions)``, unless ``call`` says how.
            schedule: none; say the path.
            options: the attributes of :class:`Description`.

        Raises:
            UnknownNameError: an option that is none of these.
            AnydiffError: no module, no path, no kind of prediction, or a schedule.
        """
        if not isinstance(network, nn.Module):
            raise AnydiffError(
                f"network is a {type(network).__name__}, which is no torch.nn.Module; put a function into a module."
            )
        check_options(Description, f"anydiff.wrap of a {type(network).__name__}", options)
        told = Description(**options)
        if schedule is not None or told.path is None or told.predicts is None:
            missing = "a schedule is given" if schedule is not None else "path and predicts are not both given"
            raise AnydiffError(
                f"no adapter knows {type(network).__module__}.{type(network).__name__}, and {missing}; say what the "
                "network is: anydiff.wrap(network, path='flow', predicts='flow', time='time', factor=1.0)."
            )
        made = ForeignNetwork(
            network, told.call or by_keywords, conditions=told.conditions, nulls=told.nulls, sign=told.sign,
            whole_times=told.whole_times,
        )  # fmt: skip
        path = foreign(told.path, told.time, told.factor, told.sees)
        return denoiser_of(made, path, told.predicts, sigma_data=told.sigma_data, shape=told.shape)

    def example(self) -> Example:
        """A linear network that predicts the velocity from noise to data."""
        network = _Linear()
        times = (0.25, 0.5, 0.75)  # from noise to data
        states = torch.linspace(-1, 1, 12).reshape(3, 4)

        def data(x: Tensor, t: float) -> Tensor:
            with torch.no_grad():
                clean: Tensor = x + (1 - t) * network(x, torch.tensor([t]))
            return clean

        options = {"path": Flow(), "predicts": "flow", "time": "from-noise", "sign": -1.0}
        return Example(network, None, states, times, tuple((t, 1 - t) for t in times), data, options=options)


class _Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.linspace(-0.5, 0.5, 16).reshape(4, 4))

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        matrix: Tensor = self.get_buffer("matrix")
        return x @ matrix + torch.cos(times)[:, None]


def by_keywords(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """``network(x, times, **conditions)``."""
    output: Tensor = network(x, times, **given)
    return output


def denoiser_of(
    network: ForeignNetwork,
    path: Any,
    predicts: PredictionKind,
    *,
    sigma_data: float = 1.0,
    shape: tuple[int, ...] | None = None,
) -> NetworkDenoiser:
    """The denoiser of a wrapped network, in evaluation mode."""
    spec = None if shape is None else StateSpec.single(tuple(shape), name="state")
    return NetworkDenoiser(network, path, predicts, sigma_data, spec).eval()
