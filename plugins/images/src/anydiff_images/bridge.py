"""Bridges between two sets of pictures, unpaired: one kind of thing becomes another.

The recipe ``images/fashion-bridge`` is the stochastic interpolant (Albergo et al. 2023, arXiv 2303.08797) from the
sneakers to the ankle boots of Fashion-MNIST.
"""

from __future__ import annotations

from pathlib import Path

import torch

from anydiff.data import Bridge
from anydiff.domains import Domain
from anydiff.domains.kit import Split
from anydiff.errors import UnknownNameError
from anydiff.recipes import Recipe
from anydiff_images.classes import FASHION_CLASSES
from anydiff_images.data import FashionMNIST, ImageDataset
from anydiff_images.folder import ImageFolder


class ImageBridge(Bridge):
    """Pictures of one kind, with starts of another.

    Args:
        start: where the bridge begins: a class of the bundled Fashion-MNIST, or a folder of pictures without classes.
        data: where it leads, likewise; pictures of the same size.
        split: ``"train"`` or ``"test"``.
        coupling: ``independent``, ``paired`` (pictures in the order of their names) or ``optimal``.
        domain: the recipe's, without classes.

    Raises:
        UnknownNameError: neither a class nor a folder.
    """

    def __init__(
        self,
        start: str = "sneaker",
        data: str = "ankle boot",
        split: Split = "train",
        coupling: str = "independent",
        domain: Domain | None = None,
    ) -> None:
        first, last = _pictures(start, split, domain), _pictures(data, split, domain)
        super().__init__("images/bridge", last, first, coupling)


def _pictures(what: str, split: Split, domain: Domain | None) -> ImageDataset:
    """The pictures of a class of Fashion-MNIST, or of a folder."""
    classes = [name.lower() for name in FASHION_CLASSES]
    if what.lower() not in classes:
        if not Path(what).expanduser().is_dir():
            raise UnknownNameError("class of Fashion-MNIST (or folder)", what, FASHION_CLASSES)
        return ImageFolder(what, split, domain=domain)
    every = FashionMNIST(split)
    assert every.labels is not None  # Fashion-MNIST has classes
    chosen = torch.nonzero(every.labels == classes.index(what.lower()))[:, 0]
    return ImageDataset(f"images/fashion-mnist ({what})", every.pixels[chosen].numpy(), None, None, domain)


def fashion_bridge() -> Recipe:
    """Sneakers to ankle boots, unpaired: velocity and noise from one U-Net with two exits."""
    recipe = {
        "name": "images/fashion-bridge",
        "help": "sneakers become ankle boots: a bridge between two classes of Fashion-MNIST, unpaired",
        "domain": {"name": "images", "options": {"channels": 1, "height": 28, "width": 28}},
        "dataset": {"name": "images/bridge", "options": {"start": "sneaker", "data": "ankle boot"}},
        "network": {
            "name": "heads",
            "options": {
                "predicts": ["flow", "noise"],
                "backbone": "unet",
                "options": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch_size": 2},
            },
        },
        "path": {"name": "interpolant", "options": {"scale": 0.25}},
        "parametrization": ["flow", "noise"],
        "sigma_data": 0.7,
        "objective": "interpolant",
        "training": {
            "steps": 2500,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.995,
            "checkpoint_every": 500,
        },
        "sampling": {"solver": {"name": "interpolant", "options": {"epsilon": 0.0}}, "nfe": 50, "grid": "time"},
        "metrics": [
            {"name": f"images/{name}", "options": {"features": "fashion-mnist"}}
            for name in ("frechet-distance", "kernel-distance", "precision", "recall")
        ],
    }
    return Recipe.parse(recipe, "recipe 'images/fashion-bridge'")
