"""Pairs of clean and degraded images: of any images and a degradation, and a user's own from two folders.

They are what restoration is trained on: by residual denoising diffusion (Liu et al., CVPR 2024, arXiv:2308.13712), by a
conditional model, or by regression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from anydiff.data import Degradation, Pairs, degradation_of
from anydiff.data.frames import Conversion
from anydiff.domains import Domain
from anydiff.domains.kit import SPLITS, Split, check_split
from anydiff.errors import AnydiffError
from anydiff.states import Draws, StateSpec
from anydiff_images.data import FashionMNIST, ImageDataset
from anydiff_images.folder import ImageFolder, folder_files, height_width, read_same


class DegradedImages(Pairs):
    """Images without labels, each with a degraded copy as the condition ``input``.

    Args:
        split: ``"train"`` or ``"test"``.
        degradation: a name in :data:`anydiff.data.pairs.DEGRADATIONS`.
        degradation_options: its options.
        path: a folder of pictures (:class:`~anydiff_images.folder.ImageFolder`), whose classes do not count; None for
            Fashion-MNIST.
        part: of Fashion-MNIST, ``"bundled"`` or ``"full"``.
        size: of the folder's pictures, as there.
        channels: of the folder's pictures, as there.
        seed: of what the degradation draws.
        domain: the recipe's; see :class:`~anydiff_images.data.ImageDataset`.
    """

    def __init__(
        self,
        split: Split = "train",
        degradation: str = "block-average",
        degradation_options: Mapping[str, Any] | None = None,
        path: str | Path | None = None,
        part: Literal["bundled", "full"] = "bundled",
        size: int | Sequence[int] | None = None,
        channels: int | None = None,
        seed: int = 0,
        domain: Domain | None = None,
    ) -> None:
        made = degradation_of(degradation, degradation_options)
        if path is None:
            if size is not None or channels is not None:
                raise AnydiffError("size and channels are of a folder's pictures; give path, or leave them out.")
            pixels = FashionMNIST(split, part).pixels.numpy()
            self._names = [f"case-{number:05d}" for number in range(len(pixels))]
        else:
            pixels = ImageFolder(path, split, size, channels).pixels.numpy()
            self._names = _stems(folder_files(Path(path).expanduser(), split, None)[0])
        clean = ImageDataset("images/degraded", pixels, None, None, domain, input=True)
        super().__init__(clean, made, seed)

    def case_labels(self, indices: Sequence[int]) -> list[Any] | None:
        """The names of the pictures."""
        return [self._names[index] for index in indices]


class ImagePairs(Pairs):
    """A user's own pairs: clean pictures in one folder, degraded ones of the same file names in another.

    Folders ``train`` and ``test`` inside are the splits where both exist; otherwise every tenth pair is for testing.

    Args:
        path: the folder of clean pictures.
        input: the folder of degraded ones.
        split: ``"train"`` or ``"test"``.
        size: to which all pictures are resized; None demands that all have one size.
        channels: to which all are converted; None demands that all have the same.
        domain: the recipe's; see :class:`~anydiff_images.data.ImageDataset`.

    Raises:
        AnydiffError: a picture without its partner, or one whose partner is of another size.
    """

    def __init__(
        self,
        path: str | Path,
        input: str | Path,
        split: Split = "train",
        size: int | Sequence[int] | None = None,
        channels: int | None = None,
        domain: Domain | None = None,
    ) -> None:
        check_split(split)
        roots = [Path(each).expanduser() for each in (path, input)]
        _check_partners(roots)
        clean, degraded = (folder_files(root, split, None)[0] for root in roots)
        conversion = Conversion.of(channels, None, None)
        pixels, partners = (read_same(files, height_width(size), conversion) for files in (clean, degraded))
        if pixels.shape != partners.shape:
            raise AnydiffError(
                f"the pictures in {str(roots[0])!r} are {_size(pixels)}, but those in {str(roots[1])!r} are "
                f"{_size(partners)} (height x width x channels); give size and channels to bring all to one."
            )
        self._names = _stems(clean)
        data = ImageDataset("images/pairs", pixels, None, None, domain, input=True)
        super().__init__(data, _Partners(data.domain.scale(torch.from_numpy(partners))))

    def case_labels(self, indices: Sequence[int]) -> list[Any] | None:
        """The names of the pictures."""
        return [self._names[index] for index in indices]


class _Partners(Degradation):
    """Degraded states that are there already, ``[N, *shape]``."""

    def __init__(self, states: Tensor) -> None:
        self.states = states

    def __call__(self, states: Tensor, spec: StateSpec, draws: Draws) -> Tensor:
        return self.states[draws.rows]


def _size(pixels: Any) -> str:
    _, channels, height, width = pixels.shape
    return f"{height}x{width}x{channels}"


def _check_partners(roots: Sequence[Path]) -> None:
    # Both splits are looked at whichever is asked for: which pictures are for testing follows from all of them.
    names = [
        {str(file.relative_to(root)) for part in SPLITS for file in folder_files(root, part, None)[0]} for root in roots
    ]
    for one, two in ((0, 1), (1, 0)):
        alone = sorted(names[one] - names[two])
        if alone:
            raise AnydiffError(
                f"{len(alone)} pictures in {str(roots[one])!r} have no partner of the same file name in "
                f"{str(roots[two])!r} ({alone[0]!r} is the first); give each clean picture its degraded one."
            )


def _stems(files: Sequence[Path]) -> list[str]:
    """Names of files without their endings, or with them where they would not tell the files apart."""
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(files) else [file.name for file in files]
