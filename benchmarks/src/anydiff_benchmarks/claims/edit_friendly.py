"""Edit-friendly noises: independent noises keep what a sample looks like while the condition changes."""

from __future__ import annotations

from typing import Any

import torch

from anydiff.editing import DDIB, CycleDiffusion, EditFriendly, EditMethod, SDEdit, invert
from anydiff_benchmarks.claims._rings import OTHER, PATH, kept, samples, sides, travel
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="edit_friendly",
    paper="Huberman-Spiegelglas, Kulikov & Michaeli 2024, Edit Friendly DDPM, CVPR 2024, arXiv:2304.06140",
    says="Inverting DDPM with independent noise at every level gives noises that reproduce an image exactly and keep "
    "its layout when the condition changes, better than native noises (CycleDiffusion); other noises, other edits.",
    check="Rings of 12 Gaussians (variance 0.004), radius 1 the source and 1.6 the target, the union the unconditional "
    "model, exact denoisers, VP linear, DDPM with 100 calls on even times, nothing skipped, 1,000 samples: share of "
    "edits that keep the angle and share within 0.25 of a target mode, for independent and native noises and SDEdit "
    "with fresh noise from the same start, at guidance 1 and 3; reconstruction in float64; correlation of the draws of "
    "two inversions. Reported: DDIB, and the same at guidance 1 for six other stochastic solvers of 100 steps.",
    threshold="In every seed, at guidance 1 and 3: independent at least 0.9, at least native + 0.25, and native at "
    "least SDEdit + 0.2; at least 0.97 near a target mode. Reconstruction within 1e-6; two inversions correlate by "
    "less than 0.2 at every level. What is reported decides nothing.",
    seeds=(0, 1, 2),
    minutes=4,
    files=("anydiff/editing/inversion.py", "anydiff/editing/invert.py", "anydiff/editing/edit_friendly.py"),
)
METHODS: dict[str, EditMethod] = {
    "independent": EditFriendly(skip=0.0),
    "native": CycleDiffusion(skip=0.0),
    "sdedit": SDEdit(skip=0.0),
}


def measure(seed: int) -> dict[str, float]:
    """Shares of every method, guidance and solver; the error of reconstruction; the correlation of two inversions."""
    found: dict[str, float] = {}
    for scale in (1.0, 3.0):
        for name, method in METHODS.items():
            same, near = kept(method, seed, sides(scale), travel())
            found[f"{name} kept at {scale:g}"], found[f"{name} near at {scale:g}"] = same, near
    found["ddib kept at 1"], found["ddib near at 1"] = kept(DDIB(), seed)
    for solver, (calls, options) in OTHER.items():
        for name, method in METHODS.items():
            found[f"{solver}: {name} kept"], _ = kept(method, seed, None, travel(solver, calls, options))
    return {**found, **_noises(seed)}


def _noises(seed: int) -> dict[str, float]:
    clean, (source, _) = samples(seed), sides(1.0)
    plan = travel().plan(PATH, "ddpm")
    settings: dict[str, Any] = {"condition": source.condition, "batch_size": len(clean)}
    first, second = (invert(plan, source.denoiser, clean, (2,), seed=seed + k, **settings) for k in (0, 50))
    same = EditFriendly(skip=0.0).edit(clean, (2,), source, source, travel=travel(), seed=seed)
    correlations = [
        abs(float(torch.corrcoef(torch.stack([first.draws[m].flatten(), second.draws[m].flatten()]))[0, 1]))
        for m in list(first.draws)[:-1]  # the last draw takes up the sample itself
    ]
    return {"reconstruction": float((same - clean).abs().max()), "correlation": max(correlations)}


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every seed and guidance by itself."""
    cells = [(row, scale) for row in rows for scale in ("1", "3")]
    least = min(row[f"independent kept at {scale}"] for row, scale in cells)
    ahead = min(row[f"independent kept at {scale}"] - row[f"native kept at {scale}"] for row, scale in cells)
    above = min(row[f"native kept at {scale}"] - row[f"sdedit kept at {scale}"] for row, scale in cells)
    near = min(row[f"{name} near at {scale}"] for row, scale in cells for name in METHODS)
    error = max(row["reconstruction"] for row in rows)
    correlation = max(row["correlation"] for row in rows)
    holds = least >= 0.9 and ahead >= 0.25 and above >= 0.2 and near >= 0.97
    holds = holds and 0 <= error < 1e-6 and 0 <= correlation < 0.2
    others = min(row[f"{solver}: independent kept"] for row in rows for solver in OTHER)
    behind = max(row[f"{solver}: native kept"] for row in rows for solver in OTHER)
    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"Independent noises keep {least:.2f} of the angles or more, {ahead:.2f} more than native ones, which keep "
        f"{above:.2f} more than SDEdit; {near:.3f} or more are near a target mode. Reconstruction errs by {error:.1e}, "
        f"and two inversions correlate by at most {correlation:.2f}. With six other solvers independent noises keep "
        f"{others:.2f} or more and native ones {behind:.2f} at most.",
    )
