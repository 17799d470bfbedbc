"""Named experiments on volumes. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe

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
        "training": _training(steps=3000),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 12, "grid": "karras", "guidance": [{"name": "clamp"}]},
        "metrics": ["volumes/frechet-distance"],
    }
    return Recipe.parse(recipe, "recipe 'volumes/brain'")


def brain_codes() -> Recipe:
    """The autoencoder of ``volumes/brain-latent``: 25,088 voxels as 4 x 7 x 8 x 7 numbers, a sixteenth."""
    recipe = {
        "name": "volumes/brain-codes",
        "help": "autoencoder of T1 brains at 6 mm: 4 x 7 x 8 x 7 numbers, for latent diffusion",
        "domain": {"name": "volumes", "options": _GRID},
        "dataset": "volumes/population",
        "network": {"name": "autoencoder", "options": {"latent_channels": 4, "factor": 4, "channels": 16}},
        "path": "vp-cosine",
        "parametrization": "data",
        "sigma_data": 0.65,
        "objective": {"name": "reconstruction", "options": {"noise": 0.1, "penalty": 1e-3}},
        "training": _training(steps=3000, batch_size=8, learning_rate=3e-3),
        # An autoencoder draws nothing: named so that the recipe keeps the hash that models made with it require.
        "sampling": {"solver": "dpm-solver++-2m"},
        "metrics": ["volumes/frechet-distance"],
    }
    return Recipe.parse(recipe, "recipe 'volumes/brain-codes'")


def brain_latent() -> Recipe:
    """Brains of many subjects, diffused in the latent space of ``volumes/brain-codes``, whose deviation is 0.79."""
    recipe = {
        "name": "volumes/brain-latent",
        "help": "T1 brains at 6 mm, unconditional, by diffusion of 4 x 7 x 8 x 7 latents",
        "domain": {"name": "volumes", "options": _GRID},
        "latent": "volumes/brain-codes",
        "dataset": "volumes/population",
        "network": {"name": "unet", "options": {"channels": 32, "multipliers": [1, 2], "blocks": 1}},
        "path": "vp-cosine",
        "parametrization": "edm",
        "sigma_data": 0.79,
        "objective": _OBJECTIVE,
        "training": _training(steps=3000, batch_size=16),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 12, "grid": "karras"},
        "metrics": ["volumes/frechet-distance"],
    }
    return Recipe.parse(recipe, "recipe 'volumes/brain-latent'")


def sadm() -> Recipe:
    """SADM: the next frame of a subject's sequence from the frames before it, some missing (demonstration size).

    The network predicts about the latest frame and what it adds to it; the target differs from the latest frame by
    0.15. With that as ``sigma_data`` the
    weighting ``edm`` gives the network's output the same weight at every noise level; with the data's own deviation the
    high levels, where the target must be told from the sequence, would count a twentieth of the low ones.
    """
    recipe = {
        "name": "volumes/sadm",
        "help": "the next frame of a sequence of T1 brains from earlier ones, some missing (SADM), 28x32x28",
        "domain": {"name": "volumes", "options": {**_GRID, "frames": 6}},
        "dataset": {"name": "volumes/sequences", "options": {"train_size": 240}},
        "network": {
            "name": "volumes/sequence-unet",
            "options": {
                "channels": 32,
                "multipliers": [1, 2],
                "blocks": 1,
                "patch_size": 2,
                "spread": 0.15,
                "sigma_data": 0.15,
            },
        },
        "path": "vp-cosine",
        "parametrization": "data",
        "sigma_data": 0.15,
        "objective": {
            "name": "denoising",
            "options": {"weighting": "edm", "times": "log-normal", "times_mean": -0.4, "times_std": 1.6},
        },
        # No condition is dropped: rows without a sequence, whose error is ten times as large, took most of the gradient
        # of a short training. Classifier-free guidance needs them: set condition_dropout.
        "training": _training(steps=900, batch_size=16, learning_rate=2e-3),
        # The paper's sampler. Chosen on training subjects, with a model that had not seen them: solvers without noise
        # keep what a short training gets wrong at high noise, and lose 3 dB.
        "sampling": {"solver": "ddpm", "nfe": 10, "grid": "karras", "guidance": [{"name": "clamp"}]},
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


def next_frame() -> Recipe:
    """``volumes/sadm`` with the data of the task ``volumes/sadm``, which are made in seconds."""
    return sadm().with_changes(["name=volumes/next-frame", "dataset.options={train_size: 24, choices: 1}"])
