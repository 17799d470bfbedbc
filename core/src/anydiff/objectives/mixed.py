"""The loss of mixed states: squared errors of the leaves of real numbers, bounds of the leaves of classes, one call."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.categorical import convert_classes
from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError
from anydiff.objectives.base import Objective, element_mean, target_and_gain
from anydiff.objectives.call import Call
from anydiff.objectives.denoising import Denoising
from anydiff.objectives.discrete_bound import bound_rate
from anydiff.paths.base import GaussianPath, per_row
from anydiff.paths.categorical import categorical
from anydiff.paths.mixed import MixedPath
from anydiff.paths.path import Path


class Mixed(Objective):
    """Σ_leaves w · L: of numbers the squared error of :class:`~anydiff.objectives.Denoising`, of classes their bound.

    Times are uniform on the path, which the bound's weight -dᾱ/dt takes into account: with the weight 1 a leaf of
    classes costs nats per entry (:mod:`anydiff.objectives.discrete_bound`, the limit of infinitely many steps).

    Args:
        weights: w per leaf, positive or 0; 1 where not given.
        weighting: of the squared errors, as for :class:`~anydiff.objectives.Denoising`.

    Raises:
        UnknownNameError: no such weighting.
        AnydiffError: a negative weight.
    """

    def __init__(self, weights: Mapping[str, float] | None = None, weighting: str = "snr-clipped") -> None:
        self.weights = {name: float(weight) for name, weight in (weights or {}).items()}
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise AnydiffError(f"weights.{name} is {weight}, but must be a finite number of at least 0.")
        self.squares = Denoising(weighting)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1): uniform on the path."""
        return path.t_end + (path.t_start - path.t_end) * uniform.double()

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse states of one kind, and weights of leaves that are not there."""
        spec = mixed(denoiser.path).bound
        for name in self.weights:
            if name not in spec.names:
                raise UnknownNameError("leaf", name, spec.names)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]; see the class."""
        first, *others = self.losses(call).values()
        return sum(others, start=first)

    def losses(self, call: Call) -> dict[str, Tensor]:
        """The weighted loss of each leaf by its name, [B]."""
        path = mixed(call.path)
        spec, named, made = path.bound, dict(path.leaves), {}
        predicted = spec.prediction.unpack(call.native.contiguous())
        tensors = {"x": call.x, "clean": call.clean, "noise": call.noise.to(call.clean)}
        if call.entry_weights is not None:
            tensors["weights"] = call.entry_weights.to(call.clean).expand(call.clean.shape)
        parts = {key: spec.unpack(value.contiguous()) for key, value in tensors.items()}
        for leaf in spec.leaves:
            own, rule = {key: value[leaf.name] for key, value in parts.items()}, named[leaf.name]
            entries = (
                self._squares(call, rule, own, predicted[leaf.name])
                if isinstance(rule, GaussianPath)
                else _classes(call, rule, own, predicted[leaf.name])
            )
            weight = self.weights.get(leaf.name, 1.0)
            made[leaf.name] = (weight * element_mean(entries, own.get("weights"))).to(torch.float32)
        return made

    def _squares(self, call: Call, path: GaussianPath, own: Mapping[str, Tensor], predicted: Tensor) -> Tensor:
        """Weighted squared error of each entry ``[B, *shape]``, in the kind that the network predicts."""
        sigma_data = call.denoiser.sigma_data
        to_clean, to_noise, gain = target_and_gain(path, call.t, call.denoiser.native_kind, sigma_data)
        clean = own["clean"]
        missed = predicted - per_row(to_clean, clean) * clean - per_row(to_noise, clean) * own["noise"]
        weight = self.squares.noise_weight(path, call.t, sigma_data) * gain
        return per_row(weight, clean) * missed.square()


def _classes(call: Call, path: Path, own: Mapping[str, Tensor], logits: Tensor) -> Tensor:
    """Nats of each entry ``[B, *shape]``, unbiased for uniform times."""
    rule, x, clean = categorical(path, "a leaf of classes"), own["x"].long(), own["clean"].long()
    cavity = convert_classes(rule, x, call.t, logits.reshape(*x.shape, -1), "logits", "cavity")
    rate = rule.decay(call.t).reshape(-1, *[1] * (x.ndim - 1)) * (call.path.t_start - call.path.t_end)
    return (rate * bound_rate(rule, x, call.t, clean, cavity)).to(logits.dtype)


def mixed(path: Path) -> MixedPath:
    """``path`` itself, if it is of leaves of both kinds.

    Raises:
        NotApplicableError: it is another.
    """
    if not isinstance(path, MixedPath):
        raise NotApplicableError(
            f"the objective 'mixed' is of states with leaves of numbers and of classes, but {path!r} carries one kind; "
            "take denoising for numbers, masked-cross-entropy or discrete-bound for classes."
        )
    return path
