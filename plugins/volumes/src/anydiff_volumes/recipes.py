"""Named experiments on volumes. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.pipeline.recipe import Recipe

_GRID: dict[str, Any] = {"shape": [28, 32, 28], "voxel_size": 6.0, "origin": [-81.5, -110.5, -75.5]}
_OBJECTIVE: dict[str, Any] = {
    "name": "denoising",
    "options": {"weighting": "edm", "times": "log-normal", "times_mean": -0.6, "times_std": 1.4},
}


def _training(**changes: Any) -> dict[str, Any]:
    return {
        "batch_size": 8,
        "learning_rate": 1.5e-3,
        "warmup_steps": 40,
        "schedule": "cosine",
        "ema_decay": 0.99,
        "precision": "bf16-mixed",
        "checkpoint_every": 200,
        **changes,
    }


def brain() -> Recipe:
    """Brains of many subjects at 6 mm, unconditional (demonstration size); 0.65 is the data's deviation."""
    recipe = {
        "name": "volumes/brain",
        "help": "T1 brains at 6 mm, 28x32x28, unconditional; MNI152 under random diffeomorphisms",
        "domain": {"name": "volumes", "options": _GRID},
        "dataset": "volumes/population",
        "network": {"name": "unet", "options": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch_size": 2}},
        "path": "vp-cosine",
        "parametrization": "edm",
        "sigma_data": 0.65,
        "objective": _OBJECTIVE,
        "training": _training(steps=250),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 12, "grid": "karras", "guidance": [{"name": "clamp"}]},
        "metrics": ["volumes/frechet-distance"],
    }
    return Recipe.parse(recipe, "recipe 'volumes/brain'")


def sadm() -> Recipe:
    """SADM: the next frame of a subject's sequence from the frames before it, some missing (demonstration size)."""
    recipe = {
        "name": "volumes/sadm",
        "help": "the next frame of a sequence of T1 brains from earlier ones, some missing (SADM), 28x32x28",
        "domain": {"name": "volumes", "options": {**_GRID, "frames": 6}},
        "dataset": "volumes/sequences",
        "network": {
            "name": "volumes/sequence-unet",
            "options": {
                "channels": 24,
                "multipliers": [1, 2],
                "blocks": 1,
                "patch_size": 2,
                "spread": 0.15,
                "sigma_data": 0.65,
            },
        },
        "path": "vp-cosine",
        "parametrization": "data",
        "sigma_data": 0.65,
        "objective": _OBJECTIVE,
        # Each of the four conditions is dropped on its own, and one that is missing hides the whole sequence: 11 %.
        "training": _training(
            steps=120, batch_size=6, learning_rate=2e-3, warmup_steps=10, ema_decay=0.9, condition_dropout=0.03
        ),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 10, "grid": "karras", "guidance": [{"name": "clamp"}]},
        "metrics": [
            "volumes/psnr",
            "volumes/ssim",
            "volumes/nrmse",
            "volumes/dice",
            {"name": "volumes/psnr", "options": {"of": "mean"}},
            {"name": "volumes/ssim", "options": {"of": "mean"}},
        ],
    }
    return Recipe.parse(recipe, "recipe 'volumes/sadm'")
