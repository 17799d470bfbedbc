"""A sampler of few calls tuned as a whole, by the distance of its samples from data: MMD finetuning.

Aiello et al., "Fast inference in denoising diffusion models via MMD finetuning", arXiv:2301.07969. The loss is the
squared maximum mean discrepancy of features of samples, made by a fixed plan with its graph, and of data. With features
F_1..F_n of samples and G_1..G_n of data the unbiased estimator is

    (Σ_{i≠j} k(F_i, F_j) + Σ_{i≠j} k(G_i, G_j))/(n (n - 1)) - 2 mean k(F_i, G_j),

which may be negative. Where sample i is asked for the condition of example i the two are not independent, and the last
mean is over i ≠ j; then it is unbiased as well. There is no teacher and no denoising: afterwards the network is a
denoiser on this plan alone, so a recipe that is trained so says ``sampling.fixed: true``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.distillation.guiding import built_guidance
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives import Call, Coupled, sampled
from anydiff.registry import check_options
from anydiff.solvers import compile_plan

KERNELS = ("polynomial", "rbf", "energy")


def kernel_values(first: Tensor, second: Tensor, kernel: str, gamma: Sequence[float], degree: int) -> Tensor:
    """k(a_i, b_j) ``[N, M]`` of features ``[N, d]`` and ``[M, d]``.

    Args:
        first: a.
        second: b.
        kernel: ``polynomial``, (γ <a, b> + 1)^degree; ``rbf``, Σ_γ exp(-γ |a - b|²); ``energy``, -|a - b|, whose
            discrepancy is the energy distance.
        gamma: γ, one or several for ``rbf``; 1/d where there is none.
        degree: of the polynomial.
    """
    scales = list(gamma) or [1 / first.shape[1]]
    if kernel == "polynomial":
        return (scales[0] * first @ second.T + 1) ** degree
    apart = (first[:, None] - second[None]).square().sum(-1)
    if kernel == "rbf":
        return torch.stack([torch.exp(-scale * apart) for scale in scales]).sum(0)
    return -torch.sqrt(apart + torch.finfo(apart.dtype).tiny)  # so that the slope at 0 is 0 and not 0/0


def squared_mmd(
    made: Tensor,
    real: Tensor,
    kernel: str = "energy",
    gamma: Sequence[float] = (),
    degree: int = 3,
    paired: bool = False,
) -> Tensor:
    """The unbiased estimator of the squared discrepancy, a number, of features ``[n, d]`` of samples and of data.

    Args:
        made: of samples.
        real: of data, as many.
        kernel: see :func:`kernel_values`, as ``gamma`` and ``degree``.
        gamma: γ.
        degree: of the polynomial.
        paired: row i of both depends on one condition, so the mean between them leaves i = j out.

    Raises:
        AnydiffError: fewer than two rows, or not as many in both.
    """
    rows = len(made)
    if rows < 2 or len(real) != rows:
        raise AnydiffError(
            f"a discrepancy is asked for of {rows} samples and {len(real)} examples, but needs as many of both, and "
            "two at least; raise training.batch_size."
        )

    def off_diagonal(values: Tensor) -> Tensor:
        return (values.sum() - values.diagonal().sum()) / (rows * (rows - 1))

    within = sum(off_diagonal(kernel_values(each, each, kernel, gamma, degree)) for each in (made, real))
    between = kernel_values(made, real, kernel, gamma, degree)
    return within - 2 * (off_diagonal(between) if paired else between.mean())


class MMD(Coupled):
    """The squared discrepancy between features of samples and of data, over the whole batch.

    A plugin gives features of its field by a subclass with :meth:`features`, and with :meth:`load_features` where these
    have options; here they are the states themselves.

    Args:
        nfe: calls of the plan.
        solver: of the plan.
        grid: its time grid: a name, a list of times, or None for that of the solver or the path.
        end: how the plan ends.
        guidance: guidances around the network while it samples, the first innermost, named as in a recipe.
        kernel: ``energy``, which pulls from any distance; ``rbf`` or ``polynomial``.
        gamma: scales of the kernel, positive; 1/d of d features where there is none.
        degree: of the polynomial kernel.
        features: options of the features, as :meth:`load_features` takes them.

    Raises:
        UnknownNameError: no such kernel, guidance or option of the features.
        AnydiffError: a scale or degree that is not positive.
    """

    fewest_rows = 2

    def __init__(
        self,
        nfe: int,
        solver: str = "ddim",
        grid: str | Sequence[float] | None = None,
        end: str = "clean",
        guidance: Sequence[str | Mapping[str, Any]] = (),
        kernel: str = "energy",
        gamma: Sequence[float] = (),
        degree: int = 3,
        features: Mapping[str, Any] | None = None,
    ) -> None:
        if kernel not in KERNELS:
            raise UnknownNameError("kernel", kernel, KERNELS)
        if not all(scale > 0 for scale in gamma) or degree < 1:
            raise AnydiffError(f"gamma is {list(gamma)} and degree {degree}, but both must be positive.")
        self.asked: dict[str, Any] = {"nfe": nfe, "grid": grid, "end": end}
        self.solver, self.layers = solver, built_guidance(guidance)
        self.kernel, self.gamma, self.degree = kernel, tuple(gamma), degree
        check_options(self.load_features, "the features of a discrepancy", features or {})
        self.load_features(**(features or {}))

    def prepare(self, denoiser: Denoiser) -> None:
        """Compile the plan."""
        self.plan = compile_plan(self.solver, denoiser.path, **self.asked)

    def load_features(self) -> None:
        """Make ready what :meth:`features` needs; the parameters of a subclass are keys of the option ``features``."""

    def features(self, states: Tensor) -> Tensor:
        """Features ``[B, d]`` of states ``[B, *shape]``, differentiable; the states themselves here."""
        return states.flatten(1)

    def outputs(self, call: Call) -> Mapping[str, Tensor]:
        """``made`` and ``real``: features of one sample for each example under its condition, and of the example.

        Raises:
            AnydiffError: features that are not finite, or through which no gradient flows.
        """
        if call.condition.loss_weight is not None:
            raise AnydiffError(
                "a discrepancy compares whole states, so entries cannot be left out by loss_weight; use data without."
            )
        if self.plan is None:
            self.prepare(call.denoiser)
        assert self.plan is not None
        layers = [layer for layer in self.layers if call.condition.given or not layer.needs_condition]
        states = sampled(call, self.plan, layers)
        made = self.features(states)
        with torch.no_grad():
            real = self.features(call.clean)
        for what, value in (("samples", made), ("data", real)):
            if value.ndim != 2 or not bool(torch.isfinite(value.detach()).all()):
                raise AnydiffError(
                    f"the features of {what} have shape {tuple(value.shape)} and must be finite numbers [B, d]; check "
                    "the function that makes them, or lower the learning rate."
                )
        if states.requires_grad and not made.requires_grad:
            raise AnydiffError(
                f"no gradient flows through the features of {type(self).__name__}, so nothing would be trained; make "
                "them of differentiable torch operations, without detach() and no_grad()."
            )
        paired = torch.full((len(made),), bool(call.condition.given), device=made.device)
        return {"made": made, "real": real, "paired": paired}

    def batch_loss(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The discrepancy, in float64."""
        made, real = outputs["made"].double(), outputs["real"].double()
        return squared_mmd(made, real, self.kernel, self.gamma, self.degree, bool(outputs["paired"].all()))
