"""ACDiT (Hu et al. 2024, arXiv:2412.07720) on Fashion-MNIST: two recipes, the latent space and the model in it.

A picture is 7 x 7 positions of four numbers. Each row of seven is a block: it is diffused given the rows above, which
are clean. All mechanisms are the core's: the autoencoder, the network ``acdit``, the objective ``block-denoising``.
"""

from __future__ import annotations

from anydiff.recipes import Recipe
from anydiff_images.classes import FASHION_CLASSES
from anydiff_images.recipes import feature_metrics

DOMAIN = {
    "name": "images",
    "options": {"channels": 1, "height": 28, "width": 28, "classes": list(FASHION_CLASSES)},
}
LATENT_DEVIATION = 1.15
"""Of the latents of ``images/codes``."""


def codes() -> Recipe:
    """A latent space of Fashion-MNIST: 28 x 28 pixels as 4 x 7 x 7 numbers, a quarter."""
    recipe = {
        "name": "images/codes",
        "help": "autoencoder of Fashion-MNIST: 4 x 7 x 7 numbers, for diffusion position by position",
        "domain": DOMAIN,
        "dataset": "images/fashion-mnist",
        "network": {"name": "autoencoder", "options": {"latent_channels": 4, "factor": 4, "channels": 32}},
        "path": "vp-cosine",
        "parametrization": "data",
        "sigma_data": 0.71,
        "objective": {"name": "reconstruction", "options": {"noise": 0.1, "penalty": 1e-3}},
        "training": {
            "steps": 1000,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "schedule": "cosine",
            "ema_decay": 0.99,
            "checkpoint_every": 250,
        },
        # An autoencoder draws nothing: named so that the recipe keeps the hash that models made with it require.
        "sampling": {"solver": "dpm-solver++-2m"},
        "metrics": feature_metrics("fashion-mnist"),
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")


def acdit() -> Recipe:
    """Fashion-MNIST for a class, row of latents by row of latents: seven blocks of seven positions."""
    recipe = {
        "name": "images/acdit",
        "help": "Fashion-MNIST, class-conditional, seven blocks of latents one after the other (ACDiT)",
        "domain": DOMAIN,
        "latent": "images/codes",
        "dataset": "images/fashion-mnist",
        "network": {"name": "acdit", "options": {"patch": 1, "block": 7, "width": 96, "blocks": 4, "heads": 4}},
        "path": "vp-cosine",
        "parametrization": "velocity",
        "sigma_data": LATENT_DEVIATION,
        "objective": "block-denoising",
        "training": {
            "steps": 3000,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.995,
            "condition_dropout": 0.1,
            "checkpoint_every": 250,
        },
        "sampling": {
            "solver": "dpm-solver++-2m",
            "nfe": 70,
            "guidance": [{"name": "classifier-free", "options": {"scale": 1.5}}],
        },
        "metrics": feature_metrics("fashion-mnist"),
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")
