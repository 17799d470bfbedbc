"""Which case an image is a sample of: the names of files say it, before writing and after reading."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import Image

from anydiff.errors import AnydiffError
from anydiff_images.files import CASE, NAME

_MEMBER = re.compile(r"~[1-9][0-9]*$")


def names(images: Sequence[Image.Image]) -> list[str]:
    """A name for each image: its file's where all have one of their own, else its number."""
    found = [str(image.info[NAME]) for image in images if NAME in image.info]
    if len(set(found)) == len(images):
        return found
    return [f"{number:04d}" for number in range(len(images))]


def labelled(images: Sequence[Image.Image], labels: Sequence[str], members: Sequence[int]) -> list[Image.Image]:
    """Copies of the images that will be written as ``LABEL``, further members of a case as ``LABEL~1``, ``LABEL~2``."""
    made = []
    for image, label, member in zip(images, labels, members, strict=True):
        copy = image.copy()
        copy.info[CASE] = copy.info[NAME] = f"{label}~{member}" if member else str(label)
        made.append(copy)
    return made


def match(images: Sequence[Image.Image], labels: Sequence[str]) -> list[int] | None:
    """The place among ``labels`` of the case of each image; None where no image is called like one of them.

    Raises:
        AnydiffError: some images are of these cases, and another is of none.
    """
    places = {str(label): place for place, label in enumerate(labels)}
    called = [str(image.info.get(NAME, "")) for image in images]
    found = [places.get(name, places.get(_MEMBER.sub("", name))) for name in called]
    if all(place is None for place in found):
        return None
    for name, place in zip(called, found, strict=True):
        if place is None:
            raise AnydiffError(
                f"the image {name!r} is of none of the {len(labels)} held-out cases ({labels[0]!r}, ...), but others "
                "are; draw images of these with `anydiff sample --cases N`, or leave it out."
            )
    return [place for place in found if place is not None]
