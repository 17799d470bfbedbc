"""Named experiments on images. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe
from anydiff_images.classes import CIFAR10_CLASSES, FASHION_CLASSES


def feature_metrics(features: str, classifier: bool = True) -> list[dict[str, Any]]:
    """The plugin's metrics on the features called ``features``; consistency only where that is a classifier."""
    names = ["frechet-distance", "kernel-distance", "precision", "recall"]
    metrics: list[dict[str, Any]] = [{"name": f"images/{name}", "options": {"features": features}} for name in names]
    if classifier:
        metrics.append({"name": "images/class-consistency", "options": {"classifier": features}})
    return metrics


def fashion() -> Recipe:
    """Fashion-MNIST, class-conditional, on the bundled 10,000 images (demonstration size); 0.71 is their deviation."""
    recipe = {
        "name": "images/fashion",
        "help": "Fashion-MNIST, class-conditional, 28x28; trained on the bundled 10,000 images",
        "domain": {
            "name": "images",
            "options": {"channels": 1, "height": 28, "width": 28, "classes": list(FASHION_CLASSES)},
        },
        "dataset": "images/fashion-mnist",
        "network": {
            "name": "unet",
            "options": {"channels": 64, "multipliers": [1, 2], "blocks": 1, "patch_size": 2},
        },
        "path": "vp-cosine",
        "parametrization": "edm",
        "sigma_data": 0.71,
        "objective": {
            "name": "denoising",
            "options": {"weighting": "edm", "times": "log-normal", "times_mean": -0.5, "times_std": 1.3},
        },
        "training": {
            "steps": 7000,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "warmup_steps": 200,
            "schedule": "cosine",
            "ema_decay": 0.999,
            "condition_dropout": 0.1,
            "precision": "bf16-mixed",
            "checkpoint_every": 500,
        },
        "sampling": {
            "solver": "dpm-solver++-2m",
            "nfe": 10,
            "grid": "karras",
            "guidance": [
                {"name": "classifier-free", "options": {"scale": 2.0, "interval": [0.2, 5.0]}},
                {"name": "clamp"},
            ],
        },
        "metrics": feature_metrics("fashion-mnist"),
    }
    return Recipe.parse(recipe, "recipe 'images/fashion'")


def cifar10() -> Recipe:
    """CIFAR-10, class-conditional; needs the fetched data and feature network. 0.50 is its deviation.

    Fetch both with ``anydiff data get images/cifar10`` and ``anydiff data get images/inception``.
    """
    recipe = {
        "name": "images/cifar10",
        "help": "CIFAR-10, class-conditional, 32x32; needs the fetched data (anydiff data get)",
        "domain": {
            "name": "images",
            "options": {"channels": 3, "height": 32, "width": 32, "classes": list(CIFAR10_CLASSES)},
        },
        "dataset": "images/cifar10",
        "network": {
            "name": "unet",
            "options": {"channels": 96, "multipliers": [1, 2, 2], "blocks": 2, "attention_levels": [1, 2]},
        },
        "path": "vp-cosine",
        "parametrization": "velocity",
        "sigma_data": 0.5,
        "objective": "denoising",
        "training": {
            "steps": 200000,
            "batch_size": 128,
            "learning_rate": 5e-4,
            "warmup_steps": 2000,
            "schedule": "cosine",
            "ema_decay": 0.9999,
            "condition_dropout": 0.1,
        },
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 20, "guidance": [{"name": "clamp"}]},
        "metrics": feature_metrics("inception", classifier=False),
    }
    return Recipe.parse(recipe, "recipe 'images/cifar10'")


def fashion_mmd() -> Recipe:
    """:func:`fashion`, its bundled weights tuned as a sampler of 4 calls by the features of the bundled classifier."""
    base = fashion()
    guidance = [part.model_dump(mode="json") for part in base.sampling.guidance]
    plan = {"solver": "ddim", "nfe": 4, "grid": "karras"}
    recipe = {
        **base.model_dump(mode="json"),
        "name": "images/fashion-mmd",
        "help": "images/fashion tuned as a sampler of 4 calls, by the discrepancy of a classifier's features",
        "start": "images/fashion",
        "objective": {"name": "images/mmd", "options": {**plan, "guidance": guidance}},
        "training": {
            "steps": 100,
            "batch_size": 128,
            "micro_batch_size": 32,
            "learning_rate": 5e-5,
            "ema_decay": 0.9,
            "condition_dropout": 0.1,
            "checkpoint_every": 10,
            "log_every": 5,
        },
        "sampling": {**plan, "guidance": guidance, "fixed": True},
    }
    return Recipe.parse(recipe, "recipe 'images/fashion-mmd'")


def fashion_restore() -> Recipe:
    """Fashion-MNIST from 4 x 4 averages at half intensity, by residual denoising diffusion; 10,000 bundled images."""
    recipe = {
        "name": "images/fashion-restore",
        "help": "Fashion-MNIST restored from 4x4 averages at half intensity; trained on the bundled 10,000 images",
        "domain": {"name": "images", "options": {"channels": 1, "height": 28, "width": 28, "input": True}},
        "dataset": {
            "name": "images/degraded",
            "options": {"degradation": "block-average", "degradation_options": {"size": 4, "intensity": 0.5}},
        },
        "network": {
            "name": "unet",
            "options": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch_size": 2},
        },
        "path": {"name": "rddm", "options": {"sum_scale": 0.01}},
        "parametrization": "residual",
        "sigma_data": 0.71,
        "objective": "every-route",
        "training": {
            "steps": 3000,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.995,
            "checkpoint_every": 500,
        },
        "sampling": {"solver": "rddm", "nfe": 2, "guidance": [{"name": "clamp"}]},
        "metrics": ["images/psnr", "images/ssim"],
    }
    return Recipe.parse(recipe, "recipe 'images/fashion-restore'")
