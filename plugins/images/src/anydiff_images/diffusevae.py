"""DiffuseVAE (Pandey et al. 2022, TMLR, arXiv:2201.00308) on Fashion-MNIST without labels: codes, refined and its twin.

All mechanisms are the core's: the autoencoder with one latent position and a density of its codes, and the recipe field
``refines``. The second formulation of the paper is ``--set path=known-shift``.
"""

from __future__ import annotations

from typing import Any, Literal

from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split
from anydiff.recipes import Recipe
from anydiff_images.bundle import read_bundle
from anydiff_images.data import ImageDataset

SIZE: dict[str, Any] = {"channels": 1, "height": 28, "width": 28}
DISTANCE = {"name": "images/frechet-distance", "options": {"features": "fashion-mnist"}}


class PlainFashion(ImageDataset):
    """The bundled Fashion-MNIST without its labels, for what is drawn without conditions or from codes.

    Args:
        split: ``"train"`` or ``"test"``.
        domain: the recipe's; see :class:`~anydiff_images.data.ImageDataset`.
    """

    def __init__(self, split: Split = "train", domain: Domain | None = None) -> None:
        check_split(split)
        images, _ = read_bundle(split)
        given = bool(getattr(domain, "input", False))
        super().__init__("images/fashion-plain", images[:, None], None, None, domain, input=given)


def coarse() -> Recipe:
    """Stage 1: 28 x 28 pixels as a code of 16 numbers, with a mixture of ten Gaussians as the density of codes."""
    recipe = {
        "name": "images/coarse",
        "help": "autoencoder of Fashion-MNIST with codes of 16 numbers and a density of these (DiffuseVAE, stage 1)",
        "domain": {"name": "images", "options": SIZE},
        "dataset": "images/fashion-plain",
        "network": {
            "name": "autoencoder",
            "options": {"factor": 32, "channels": 8, "latent_channels": 16, "density": 10},
        },
        "path": "vp-cosine",
        "parametrization": "data",
        "sigma_data": 0.71,
        "objective": {"name": "reconstruction", "options": {"noise": 0.2, "penalty": 2e-3}},
        "training": {
            "steps": 2000,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "warmup_steps": 50,
            "schedule": "cosine",
            "ema_decay": 0.99,
            "checkpoint_every": 500,
        },
        "metrics": [DISTANCE],
    }
    return Recipe.parse(recipe, "recipe 'images/coarse'")


def _diffusion(name: Literal["images/refined", "images/unrefined"], about: str) -> dict[str, Any]:
    return {
        "name": name,
        "help": about,
        "domain": {"name": "images", "options": SIZE},
        "dataset": "images/fashion-plain",
        "network": {"name": "unet", "options": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch_size": 2}},
        "path": "vp-cosine",
        "parametrization": "edm",
        "sigma_data": 0.71,
        "objective": {
            "name": "denoising",
            "options": {"weighting": "edm", "times": "log-normal", "times_mean": -0.5, "times_std": 1.3},
        },
        "training": {
            "steps": 3000,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.995,
            "checkpoint_every": 500,
        },
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 10, "grid": "karras", "guidance": [{"name": "clamp"}]},
        "metrics": [DISTANCE],
    }


def refined() -> Recipe:
    """Stage 2: a diffusion that is told what stage 1 makes of a code."""
    recipe = _diffusion("images/refined", "Fashion-MNIST: codes are drawn, and a diffusion refines them (DiffuseVAE)")
    recipe["domain"] = {"name": "images", "options": {**SIZE, "input": True}}
    return Recipe.parse({**recipe, "refines": "images/coarse"}, "recipe 'images/refined'")


def unrefined() -> Recipe:
    """The twin of ``images/refined``: the same network, steps and data without codes."""
    recipe = _diffusion("images/unrefined", "the unconditional twin of images/refined: same network, same steps")
    return Recipe.parse(recipe, "recipe 'images/unrefined'")
