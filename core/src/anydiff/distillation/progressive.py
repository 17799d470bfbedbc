"""Progressive distillation: a student learns to reach in one step the point that its teacher reaches in two.

Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022; for conditional sequences
Huang et al., "ProDiff", ACM Multimedia 2022, arXiv:2207.06389. A deterministic DDIM step from t to s by a data
prediction D is x_s = α_s D + (σ_s/σ_t)(x_t - α_t D). With κ = σ/α, a teacher that predicts a at x_t, steps to t' and
predicts b there, arrives at t'' where one step by

    x̃_0 = a + w (b - a),   w = (1 - κ''/κ') / (1 - κ''/κ)

from t arrives too. Here x_t has cancelled: the usual form (x'' - (σ''/σ) x_t)/(α'' - (σ''/σ) α) divides two differences
that vanish on fine grids. At σ'' = 0 the target is b. A network is told the noise level of its input, everywhere: the
released code of ProDiff trains a student at level t under the label of t'' and samples it at another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers.base import wrapped
from anydiff.distillation.companion import check_same_states
from anydiff.distillation.guiding import built_guidance
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives import Call, Objective, element_mean
from anydiff.paths.base import GaussianPath, gaussian, per_row
from anydiff.paths.path import Path
from anydiff.samplers.sampler import guidance_layers
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec

TEACHER = "teacher"
WEIGHTINGS = ("truncated-snr", "data")
NORMS = ("l2", "l1")


def two_step_target(
    teacher: Denoiser, x: Tensor, t: Tensor, middle: Tensor, end: Tensor, condition: Conditioning = UNCONDITIONAL
) -> Tensor:
    """x̃_0 ``[B, *shape]``: the data prediction by which one DDIM step from t to ``end`` arrives where two steps of
    ``teacher`` by ``middle`` do.

    Args:
        teacher: predicts at t and at ``middle``; on any path of data, noise and known sources, in any kind.
        x: the states ``[B, *shape]`` at ``t``.
        t: times ``[B]``, float64.
        middle: times ``[B]`` between.
        end: times ``[B]`` where the second step arrives.
        condition: handed to the teacher.
    """
    path = gaussian(teacher.path, "a step of progressive distillation")
    first = teacher.predict(x, t, "data", condition)
    second = teacher.predict(_jump(path, x, first, t, middle, condition), middle, "data", condition)
    last, between, whole = _noise_level(path, end), _noise_level(path, middle), _noise_level(path, t)
    weight = torch.expm1(torch.log(last / between)) / torch.expm1(torch.log(last / whole))
    return first + per_row(weight, x) * (second - first)


def _noise_level(path: GaussianPath, t: Tensor) -> Tensor:
    """κ = σ/α, float64; infinite where α is 0."""
    return path.sigma(t) / path.alpha(t)


def _jump(path: GaussianPath, x: Tensor, data: Tensor, t: Tensor, s: Tensor, condition: Conditioning) -> Tensor:
    """The state at times s ``[B]`` after one DDIM step by the prediction ``data`` from the state x at times t."""
    ratio = path.sigma(s) / path.sigma(t)
    moved = per_row(ratio, x) * x + per_row(path.alpha(s) - ratio * path.alpha(t), x) * data
    if path.known:
        before, after = path.coefficients(t), path.coefficients(s)
        for name, known in path.given(condition, like=x).items():
            moved = moved + per_row(after[name] - ratio * before[name], x) * known.to(x)
    return moved


def halved(grid: Sequence[float]) -> tuple[float, ...]:
    """Every second of the times ``grid``, both ends included.

    Raises:
        AnydiffError: an odd number of steps.
    """
    if len(grid) < 3 or len(grid) % 2 == 0:
        raise AnydiffError(f"a grid of {len(grid) - 1} steps cannot be halved; give an even number of steps.")
    return tuple(grid[::2])


class Progressive(Objective):
    """The weighted error of the student's data prediction against :func:`two_step_target` of the companion ``teacher``.

    The student is seen at the times where its own steps begin, each equally often. Entries of absent nodes and those
    without loss weight count for nothing, neither in the sum nor in the number that divides it.

    Args:
        grid: the teacher's times, from the path's first to its last, decreasing, of an even number of steps; the
            student's are every second of them.
        weighting: ``truncated-snr``, max(α²/σ², 1), or ``data``, 1.
        norm: ``l2``, or ``l1`` as in ProDiff, whose optimum is a median.
        guidance: guidances around the teacher, the first innermost, named as in a recipe: the student learns the guided
            predictions and is sampled without guidance.

    Raises:
        UnknownNameError: no such weighting, norm or guidance.
        AnydiffError: a grid that cannot be halved or does not decrease.
    """

    needs = (TEACHER,)

    def __init__(
        self,
        grid: Sequence[float],
        weighting: str = "truncated-snr",
        norm: str = "l2",
        guidance: Sequence[str | Mapping[str, Any]] = (),
    ) -> None:
        for value, known, what in ((weighting, WEIGHTINGS, "weighting"), (norm, NORMS, "norm")):
            if value not in known:
                raise UnknownNameError(what, value, known)
        self.grid = tuple(float(t) for t in grid)
        halved(self.grid)
        if not bool((np.diff(self.grid) < 0).all()):
            raise AnydiffError(f"grid is {list(self.grid)}, but must decrease from one time to the next.")
        self.weighting, self.norm = weighting, norm
        self.layers = built_guidance(guidance)

    def asked_times(self, name: str) -> tuple[float, ...] | None:
        """The teacher is asked at all of its times but the last."""
        return self.grid[:-1] if name == TEACHER else None

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """The first times of the student's steps, each equally often."""
        begins = torch.tensor(self.grid[:-1:2], dtype=torch.float64, device=uniform.device)
        return begins[(uniform.double() * len(begins)).long().clamp(max=len(begins) - 1)]

    def meet(self, denoiser: Denoiser, companions: Mapping[str, Denoiser]) -> None:
        """Refuse a teacher of other states or another path, and a grid that leaves the path."""
        path = gaussian(denoiser.path, "progressive distillation")
        check_same_states(denoiser, companions[TEACHER], TEACHER)
        if self.grid[0] != path.t_start or self.grid[-1] < path.t_end:
            raise AnydiffError(
                f"the grid runs from {self.grid[0]:g} to {self.grid[-1]:g}, but the teacher was trained from "
                f"{path.t_start:g} to {path.t_end:g}; begin at {path.t_start:g}, where samples do, and end in this "
                "range."
            )

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""
        missed = call.predict("data") - self.target(call)
        error = missed.square() if self.norm == "l2" else missed.abs()
        weight = self._weight(call.gaussian_path, call.t)
        if weight.ndim > 1:  # a product path: one weight per entry
            return element_mean(weight.to(error) * error, call.entry_weights)
        return weight.to(error) * element_mean(error, call.entry_weights)

    @torch.no_grad()
    def target(self, call: Call) -> Tensor:
        """x̃_0 ``[B, *shape]`` at the states of ``call``."""
        grid = torch.tensor(self.grid, dtype=torch.float64, device=call.t.device)
        place = (grid[None] - call.t[:, None]).abs().argmin(1)
        condition = call.condition_of(TEACHER)
        index = torch.arange(len(call.t), device=call.t.device)
        condition = replace(condition, index=index)
        given = [layer for layer in self.layers if condition.given or not layer.needs_condition]
        spec = call.denoiser.spec or StateSpec.single(tuple(call.x.shape[1:]))
        layers = [layer.for_run(index.tolist()) for layer in guidance_layers(given, spec, condition)]
        teacher = wrapped(call.companion(TEACHER), layers)
        return two_step_target(teacher, call.x, call.t, grid[place + 1], grid[place + 2], condition)

    def _weight(self, path: GaussianPath, t: Tensor) -> Tensor:
        if self.weighting == "data":
            return torch.ones_like(t)
        return ((path.alpha(t) / path.sigma(t)) ** 2).clamp(min=1.0)
