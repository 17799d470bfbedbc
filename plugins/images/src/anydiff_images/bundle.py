"""Makes, and reads, the part of Fashion-MNIST inside this package. The command that made it::

    anydiff data get images/fashion-mnist
    python -m anydiff_images.bundle            # or: python -m anydiff_images.bundle FOLDER_OF_IDX_FILES

For each class, ``numpy.random.default_rng(0)`` chooses 1,000 of the 6,000 training and 200 of the 1,000 test images.
They are stored as one 8-bit PNG mosaic, 100 images a row: ten rows of training images per class, then two rows of test
images per class. The label is thus the place, and the file can be looked at. Example i of a split has class i mod 10.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from anydiff.errors import FileFormatError
from anydiff.files import atomic_path
from anydiff_images.official import read_fashion_mnist

BUNDLE = Path(__file__).with_name("fashion_mnist.png")
PER_CLASS = {"train": 1000, "test": 200}
CLASSES, COLUMNS, SIDE, SEED = 10, 100, 28, 0

Pixels = NDArray[np.uint8]


def choose(images: dict[str, Pixels], labels: dict[str, Pixels]) -> dict[str, Pixels]:
    """The chosen images of each split, sorted by class, ``[classes * per class, 28, 28]``."""
    generator = np.random.default_rng(SEED)
    chosen = {}
    for split, count in PER_CLASS.items():
        rows = [
            np.sort(generator.permutation(np.flatnonzero(labels[split] == label))[:count]) for label in range(CLASSES)
        ]
        chosen[split] = images[split][np.concatenate(rows)]
    return chosen


def to_mosaic(chosen: dict[str, Pixels]) -> Pixels:
    """One picture ``[H, 2800]`` of all chosen images, training first."""
    tiles = np.concatenate([chosen[split] for split in PER_CLASS])
    grid = tiles.reshape(-1, COLUMNS, SIDE, SIDE).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid.reshape(-1, COLUMNS * SIDE))


def read_bundle(split: str, path: Path = BUNDLE) -> tuple[Pixels, NDArray[np.int64]]:
    """Images ``[N, 28, 28]`` and labels ``[N]`` of a split of the bundled part; labels are 0, 1, …, 9, 0, 1, …

    Raises:
        FileFormatError: the file is missing or of another size.
    """
    try:
        mosaic = _decoded(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise FileFormatError(
            f"the bundled {path.name!r} cannot be read ({error}); install anydiff-images again."
        ) from error
    total = sum(PER_CLASS.values()) * CLASSES
    if mosaic.shape != (total // COLUMNS * SIDE, COLUMNS * SIDE):
        raise FileFormatError(f"the bundled {path.name!r} has shape {mosaic.shape}; install anydiff-images again.")
    tiles = mosaic.reshape(-1, SIDE, COLUMNS, SIDE).transpose(0, 2, 1, 3).reshape(total, SIDE, SIDE)
    first = PER_CLASS["train"] * CLASSES
    tiles = tiles[:first] if split == "train" else tiles[first:]
    interleaved = tiles.reshape(CLASSES, -1, SIDE, SIDE).swapaxes(0, 1).reshape(-1, SIDE, SIDE)
    return np.ascontiguousarray(interleaved), np.arange(len(tiles), dtype=np.int64) % CLASSES


@functools.lru_cache(maxsize=1)
def _decoded(path: Path, changed: int) -> Pixels:
    """The picture, decoded once for all data sets of one process; ``changed`` is the file's own time."""
    with Image.open(path) as picture:
        mosaic = np.asarray(picture)
    mosaic.flags.writeable = False
    return mosaic


def write_bundle(source: Path | None, path: Path = BUNDLE) -> None:
    """Make the bundled file from the official IDX files at ``source`` (or in the data cache)."""
    official = {split: read_fashion_mnist(split, source) for split in PER_CLASS}
    chosen = choose(
        {split: part[0] for split, part in official.items()}, {split: part[1] for split, part in official.items()}
    )
    about = PngImagePlugin.PngInfo()
    about.add_text("Source", "Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist")
    about.add_text("Copyright", "2017 Zalando SE, MIT (Expat)")
    about.add_text("Description", (__doc__ or "").split("\n\n")[1])
    with atomic_path(path) as temporary:
        Image.fromarray(to_mosaic(chosen)).save(temporary, format="png", optimize=True, pnginfo=about)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the bundled part of Fashion-MNIST.")
    parser.add_argument("source", nargs="?", type=Path, help="folder of the official IDX files, or the Debian package")
    parser.add_argument("--out", type=Path, default=BUNDLE)
    arguments = parser.parse_args()
    write_bundle(arguments.source, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")
