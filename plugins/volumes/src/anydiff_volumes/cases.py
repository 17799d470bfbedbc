"""Which held-out case a volume is a sample of: in the name of its file, and in its header's description.

A file is called ``case0003_member1.nii.gz``. Its description also says of which data the case is, so that volumes of
other data are refused, and files that were renamed are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import nibabel
import numpy as np

from anydiff.domains import LabelledArray
from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError
from anydiff_volumes.placement import as_nifti

_FILE = re.compile(r"(case\d+)(?:_member(\d+))?\.nii(?:\.gz)?", re.IGNORECASE)
_DESCRIPTION = re.compile(r"anydiff (case\d+) member(\d+) of (\S+)")


@dataclass(frozen=True)
class Case:
    """A held-out example.

    Attributes:
        name: ``case0003``.
        source: of which data: a data set's name and a digest of its options.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Told:
    """What a volume says of its case; ``source`` and ``member`` are empty where only its file's name tells."""

    name: str
    member: str = ""
    source: str = ""


def numbered_cases(name: str, options: Mapping[str, Any], indices: Sequence[int]) -> list[Case]:
    """Cases called by the number of their example.

    Args:
        name: of the data set.
        options: what decides which example an index is.
        indices: of the examples.
    """
    digest = content_hash(repr(sorted(options.items())))[:8]
    return [Case(f"case{index:04d}", f"{name[:40]}@{digest}") for index in indices]


def labelled(images: Sequence[Any], cases: Sequence[Case], members: Sequence[int]) -> list[Any]:
    """The volumes with case and member in their headers' descriptions."""
    return [
        as_nifti(np.asarray(image.dataobj), image.affine, f"anydiff {case.name} member{member} of {case.source}")
        for image, case, member in zip(images, cases, members, strict=True)
    ]


def arrays(cases: Sequence[Case]) -> dict[str, LabelledArray]:
    """``name [case]`` and ``source [case]`` for a Zarr group: places in the lists of their attributes ``names``."""
    return {field: LabelledArray.of_texts([getattr(case, field) for case in cases]) for field in ("name", "source")}


def told_by(image: Any, what: str = "the volume") -> Told | None:
    """What ``image``, which an error calls ``what``, says of its case; None where it says nothing.

    Raises:
        AnydiffError: the file is called by another case than its description says.
    """
    file = PurePath(image.get_filename() or "").name
    named = _FILE.fullmatch(file)
    text = bytes(image.header["descrip"]) if isinstance(image, nibabel.Nifti1Image) else b""
    described = _DESCRIPTION.match(text.rstrip(b"\0").decode(errors="replace"))
    if described is None:
        return None if named is None else Told(named[1].lower(), named[2] or "")
    if named is not None and named[1].lower() != described[1]:
        raise AnydiffError(
            f"{what} is in the file {file!r}, but its header says that it is of {described[1]} ({described[3]}); give "
            "the file its own name again."
        )
    return Told(*described.groups())


def file_names(images: Sequence[Any]) -> list[str]:
    """What volumes are called in a folder: by case and member where all of them say these, else by their number."""
    told = [told_by(image) for image in images]
    names = [f"{each.name}_member{each.member}" for each in told if each is not None and each.source]
    if len(names) < len(images) or len(set(names)) < len(images):
        digits = max(4, len(str(len(images) - 1)))
        names = [f"{index:0{digits}d}" for index in range(len(images))]
    return [f"{name}.nii.gz" for name in names]


def match(images: Sequence[Any], cases: Sequence[Case]) -> list[int] | None:
    """The place among ``cases`` of the case of each volume; None where no volume says its case.

    Raises:
        AnydiffError: a volume that says none while others do, or one that these are not, or of other data.
    """
    told = [told_by(image, f"volume {number}") for number, image in enumerate(images)]
    if not any(told):
        return None
    places = {case.name: place for place, case in enumerate(cases)}
    fix = "draw volumes of these with `anydiff sample --cases N`"
    found = []
    for number, each in enumerate(told):
        file = PurePath(images[number].get_filename() or "").name
        what = f"volume {number}" + (f" ({file!r})" if file else "")
        if each is None:
            raise AnydiffError(
                f"{what} does not say of which case it is, but others do; call its file as in case0003_member0.nii.gz."
            )
        if each.name not in places:
            raise AnydiffError(f"{what} is of {each.name}, which is none of the {len(cases)} held-out cases; {fix}.")
        case = cases[places[each.name]]
        if each.source and each.source != case.source:
            raise AnydiffError(f"{what} is of {each.name} of {each.source}, but held out are {case.source}; {fix}.")
        found.append(places[each.name])
    return found
