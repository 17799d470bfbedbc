"""A user's own pictures as data: a folder, with a sub-folder for each class or none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anydiff.data.frames import FOREIGN, MODES, SUFFIXES, Conversion, picture_files, read_picture
from anydiff.domains import Domain
from anydiff.domains.kit import SPLITS, Split, check_split, every_tenth
from anydiff.errors import AnydiffError, natural_number
from anydiff_images.data import ImageDataset
from anydiff_images.files import to_image
from anydiff_images.official import Labels, Pixels


class ImageFolder(ImageDataset):
    """A user's own pictures: one sub-folder per class, or no sub-folders and no classes.

    Sub-folders ``train`` and ``test`` are the splits where both exist; otherwise every tenth image (in order of name,
    within each class) is the test split. Both splits number the classes alike: as ``classes`` says, or by default the
    folders for training in the order of their names. A class that only the test split has is refused.

    Args:
        path: the folder.
        split: ``"train"`` or ``"test"``.
        size: side, or (height, width), to which every image is resized (area-averaging, after a centred crop to the
            same aspect); None demands that all have one size.
        channels: 1, 3 or 4, to which every image is converted; None demands that all have the same.
        classes: the names of the class folders in the order of their numbers.
        value_range: what becomes black and white in pictures of more than eight bits that are not 16-bit.
        background: red, green and blue behind transparent pixels, where no alpha channel is kept.
        domain: the recipe's; see :class:`ImageDataset`.
    """

    def __init__(
        self,
        path: str | Path,
        split: Split = "train",
        size: int | Sequence[int] | None = None,
        channels: int | None = None,
        classes: Sequence[str] | None = None,
        value_range: Sequence[float] | None = None,
        background: Sequence[int] | None = None,
        domain: Domain | None = None,
    ):
        check_split(split)
        conversion = Conversion.of(channels, value_range, background)
        files, labels, names = folder_files(Path(path).expanduser(), split, classes)
        pixels = read_same(files, height_width(size), conversion)
        super().__init__("images/folder", pixels, labels, names, domain)


def folder_files(
    folder: Path, split: str, classes: Sequence[str] | None
) -> tuple[list[Path], Labels | None, list[str] | None]:
    """The image files of a split with their class numbers and the names of all classes."""
    if not folder.is_dir():
        raise AnydiffError(f"the image folder {str(folder)!r} does not exist; check path.")
    official = all((folder / name).is_dir() for name in SPLITS)
    roots = {name: folder / name if official else folder for name in SPLITS}
    if official:
        _count_left_out(folder, [each for each in _folders(folder) if each.name not in SPLITS])
    groups = {name: _groups(root) for name, root in roots.items()}
    names = _class_names(groups["train"], classes, roots["train"])
    # Both splits are looked at whichever is asked for: a training of hours must not end at its evaluation.
    for name in SPLITS:
        foreign = [group.name for group in groups[name] if group.name not in (names or [])]
        if foreign or bool(groups[name]) != bool(names):
            has = f"the class {foreign[0]!r}" if foreign else "no class folders"
            raise AnydiffError(
                f"{str(roots[name])!r} has {has}, but the classes for training are {names or 'none'}; give both "
                "splits the same classes."
            )
    found = groups[split]
    files: list[Path] = []
    labels: list[int] = []
    for group in found or [roots[split]]:
        inside = picture_files(group)
        _count_left_out(group, _folders(group))
        if not official:
            inside = [inside[place] for place in every_tenth(len(inside), split)]
        files += inside
        labels += [names.index(group.name) if names else 0] * len(inside)
    if not files:
        raise AnydiffError(
            f"the {split} split of {str(folder)!r} is empty, for it is every tenth picture of a "
            "folder; give ten or more of a class, or put folders train and test into it."
        )
    return files, (np.array(labels) if names else None), names


def _groups(root: Path) -> list[Path]:
    """The class folders of a split, sorted by name; refused beside pictures that belong to none."""
    groups = _folders(root)
    endings = {*SUFFIXES, *FOREIGN}
    loose = sorted(each.name for each in root.iterdir() if each.is_file() and each.suffix.lower() in endings)
    if groups and loose:
        raise AnydiffError(
            f"{str(root)!r} holds both sub-folders and the picture {loose[0]!r}; put every picture into the folder of "
            "its class, or none."
        )
    return groups


def _class_names(groups: Sequence[Path], classes: Sequence[str] | None, root: Path) -> list[str] | None:
    """All classes in the order of their numbers; None without classes."""
    folders = [group.name for group in groups]
    if classes is None:
        return folders or None
    names = [str(name) for name in classes]
    if sorted(names) != folders:
        raise AnydiffError(
            f"classes are {names}, but the folders in {str(root)!r} are {folders}; name each of them once, in the "
            "order of their numbers."
        )
    return names


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _count_left_out(root: Path, folders: Sequence[Path]) -> None:
    if folders:
        warnings.warn(
            f"{str(root)!r} holds {len(folders)} folders that are neither a split nor a class ({folders[0].name!r} is "
            "the first), which are left out.",
            stacklevel=2,
        )


def height_width(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """A side, or (height, width), as the latter."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2:
        raise AnydiffError(f"size is {size!r}, but must be one side or (height, width).")
    return natural_number("size", pair[0]), natural_number("size", pair[1])


def read_same(files: list[Path], size: tuple[int, int] | None, conversion: Conversion) -> Pixels:
    """All files as ``[N, C, H, W]``, resized and converted if asked; else refused at the first that differs."""
    pixels: NDArray[np.uint8] | None = None
    for number, file in enumerate(files):
        array = read_picture(file, conversion)
        if size is not None:
            array = _crop_resize(array, size)
        if pixels is None:
            pixels = np.empty((len(files), array.shape[2], *array.shape[:2]), dtype=np.uint8)
        first = pixels.shape[2:] + pixels.shape[1:2]
        if array.shape[2] != first[2]:
            raise AnydiffError(
                f"{str(file)!r} has mode {MODES[array.shape[2]]!r}, but {files[0].name!r} has {MODES[first[2]]!r}; "
                "give channels=1 or channels=3 to convert every picture."
            )
        if array.shape != first:
            raise AnydiffError(
                f"{str(file)!r} is {array.shape[1]}x{array.shape[0]} pixels, but {files[0].name!r} is "
                f"{first[1]}x{first[0]}; give size={min(*array.shape[:2], *first[:2])} (or another side) to resize "
                "every picture."
            )
        pixels[number] = array.transpose(2, 0, 1)
    assert pixels is not None
    return pixels


def _crop_resize(array: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Centred crop to the aspect of ``size`` (height, width), then resize by area averaging."""
    image = to_image(array)
    height, width = size
    factor = min(image.width / width, image.height / height)
    crop_width, crop_height = width * factor, height * factor
    left, top = (image.width - crop_width) / 2, (image.height - crop_height) / 2
    method = Image.Resampling.BOX if factor > 1 else Image.Resampling.BICUBIC
    resized = image.resize((width, height), method, box=(left, top, left + crop_width, top + crop_height))
    found: NDArray[np.uint8] = np.asarray(resized)
    return found[..., None] if found.ndim == 2 else found
