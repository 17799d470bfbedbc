"""VQ-Diffusion: a tenth of replacements beside masks against masks alone, and strides by the kernel of two times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from anydiff.denoisers import TableOracle
from anydiff.paths import CategoricalPath, MaskAndReplace, Masked, Uniform
from anydiff.samplers import sampled_law
from anydiff.solvers import Plan, compile_plan
from anydiff.states import StateSpec
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="vq_diffusion",
    paper="Gu et al. 2022, Vector quantized diffusion model for text-to-image synthesis, CVPR 2022, arXiv:2111.14822",
    says="Mask-and-replace diffusion draws better than masks or replacements alone, and steps may be skipped by the "
    "kernel between any two times.",
    check="Exact denoisers of laws of four entries of three classes, Dirichlet(0.15), one per seed; the exact law of "
    "what ancestral steps draw, in total variation from the data's. (A) 8 and 16 steps: masked, mask-and-replace with "
    "a share of masks of 0.9, uniform. (B) mask-and-replace, strides 1, 2, 4, 8 over 64 steps: kernels of two times "
    "against products of the one-step kernels passed over, and the one-step kernel in place of the stride's. Networks "
    "trained on digits (the sheet's third part, no winner expected) are not compared here.",
    threshold="In every seed: mask-and-replace at most 0.85 of masked at 8 and at 16 steps, and masked below uniform; "
    "strides within 10 % of the products of one-step kernels, and the one-step kernel off by more than 10 % at every "
    "stride above 1. Masked at 64 steps below masked at 8.",
    seeds=(0, 1, 2),
    minutes=1,
    files=("anydiff/networks/codebook.py", "anydiff_images/vq_diffusion.py"),
    recipes=("images/vq-diffusion",),
)
CLASSES, LENGTH, STEPS = 3, 4, 64
SPEC = StateSpec.single((LENGTH,), kind="categorical", classes=CLASSES)
STRIDES = (1, 2, 4, 8)


def measure(seed: int) -> dict[str, float]:
    """Total variations of every kernel and stride."""
    shares = np.random.default_rng(seed).dirichlet([0.15] * CLASSES**LENGTH)
    law = torch.from_numpy(shares).reshape([CLASSES] * LENGTH)
    numbers = {}
    paths = {"masked": Masked(), "mask-and-replace": MaskAndReplace(masked=0.9), "uniform": Uniform()}
    for name, path in paths.items():
        bound = path.bind(SPEC)
        for steps in (8, 16, STEPS):
            numbers[f"{name}, {steps} steps"] = _distance(bound, compile_plan("ancestral", bound, steps), law)
    bound = paths["mask-and-replace"].bind(SPEC)
    for stride in STRIDES:
        plan = compile_plan("ancestral", bound, STEPS // stride)
        numbers[f"stride {stride}, two times"] = _distance(bound, plan, law)
        numbers[f"stride {stride}, products"] = _distance(bound, _stepped(bound, plan, stride), law)
        numbers[f"stride {stride}, one step"] = _distance(bound, _stepped(bound, plan, 1), law)
    return numbers


def _distance(path: CategoricalPath, plan: Plan, law: Tensor) -> float:
    """Total variation of the plan's exact law from ``law``."""
    return float((sampled_law(TableOracle(path, SPEC, law), plan) - law).abs().sum() / 2)


def _stepped(path: CategoricalPath, plan: Plan, passed: int) -> Plan:
    """The plan with every kernel as the product of the ``passed`` kernels of single steps that end where it does."""
    nodes, place, changed = plan.nodes, 0, []
    for each in plan.instructions:
        options = getattr(each, "options", {})
        if "step" in options:  # a transition
            each = replace(each, options={**options, "step": _product(path, nodes[place], passed)})  # type: ignore[arg-type]
            place += 1
        changed.append(each)
    return replace(plan, instructions=tuple(changed))


def _product(path: CategoricalPath, t: float, passed: int) -> list[float]:
    """(α, β, γ) of ``passed`` single steps one after the other, the last of which ends at ``t``."""
    alpha, beta, gamma = 1.0, 0.0, 0.0
    last = round(t * STEPS)
    for step in range(last - passed, last):
        keep, _, masked = path.kernel(step / STEPS, (step + 1) / STEPS)
        # A class stays unmasked with the product of 1 - γ; what of that was never drawn anew was kept.
        gamma = gamma + (1 - gamma) * float(masked)
        alpha = alpha * float(keep)
        beta = 1 - alpha - gamma
    return [alpha, beta, gamma]


def judge(rows: list[dict[str, float]]) -> Verdict:
    """All gates in every seed."""
    ratios = [r[f"mask-and-replace, {n} steps"] / r[f"masked, {n} steps"] for r in rows for n in (8, 16)]
    below = all(r[f"masked, {n} steps"] < r[f"uniform, {n} steps"] for r in rows for n in (8, 16))
    falls = all(r[f"masked, {STEPS} steps"] < r["masked, 8 steps"] for r in rows)

    def off(kind: str, strides: tuple[int, ...]) -> list[float]:
        return [abs(r[f"stride {s}, two times"] / r[f"stride {s}, {kind}"] - 1) for r in rows for s in strides]

    strides, shortcut = off("products", STRIDES), off("one step", STRIDES[1:])
    passed = max(ratios) <= 0.85 and below and falls and max(strides) <= 0.1 and min(shortcut) > 0.1
    sentence = (
        f"Mask-and-replace over masked {min(ratios):.2f} to {max(ratios):.2f}; masked "
        f"{'below' if below else 'NOT below'} uniform in every seed; strides by the kernel of two times within "
        f"{max(strides):.1e} of products of one-step kernels, the one-step kernel off by {min(shortcut):.0%} at least."
    )
    return Verdict("reproduced" if passed else "not reproduced", sentence)
