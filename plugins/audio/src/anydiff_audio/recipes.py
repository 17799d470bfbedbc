"""Named experiments on sounds. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe
from anydiff_audio.names import LABELS, RATE, SAMPLES

DOMAIN: dict[str, Any] = {
    "name": "audio",
    "options": {"rate": RATE, "samples": SAMPLES, "channels": 1, "class_names": LABELS},
}
METRICS = ["audio/word-accuracy", "audio/voice-accuracy", "audio/frechet-distance", "audio/log-spectral-distance"]


def codes() -> Recipe:
    """A codec of speech: 10,240 samples as 160 codes of 128, 1,120 bits in place of 163,840."""
    recipe = {
        "name": "audio/codes",
        "help": "autoencoder of the spoken numbers with a codebook: 1.28 s as 160 codes of 128",
        "domain": DOMAIN,
        "dataset": "audio/numbers",
        "network": {
            "name": "autoencoder",
            "options": {"factor": 64, "channels": 8, "codebook": 128, "code_size": 16},
        },
        "path": "vp-cosine",
        "parametrization": "data",
        "sigma_data": 0.1,
        "objective": {"name": "reconstruction", "options": {"commitment": 0.25, "error": "spectral"}},
        "training": {
            "steps": 4000,
            "batch_size": 16,
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.995,
            "checkpoint_every": 250,
        },
        "sampling": {"solver": "dpm-solver++-2m"},
        "metrics": METRICS,
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")


def numbers_wave() -> Recipe:
    """Number and voice to speech by diffusion of the samples, for any solver of waveforms; a U-Net of one dimension."""
    recipe = {
        "name": "audio/numbers-wave",
        "help": "a number and a voice to speech, by diffusion of the waveform (no weights: train it)",
        "domain": DOMAIN,
        "dataset": "audio/numbers",
        "network": {
            "name": "unet",
            "options": {"channels": 32, "multipliers": [1, 2, 2, 2], "blocks": 1, "patch_size": 16},
        },
        "path": "vp-cosine",
        "parametrization": "edm",
        "sigma_data": 0.1,
        "objective": "denoising",
        "training": {
            "steps": 20000,
            "batch_size": 32,
            "learning_rate": 5e-4,
            "warmup_steps": 200,
            "schedule": "cosine",
            "ema_decay": 0.999,
            "condition_dropout": 0.1,
        },
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 20, "grid": "karras", "guidance": [{"name": "clamp"}]},
        "metrics": METRICS,
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")
