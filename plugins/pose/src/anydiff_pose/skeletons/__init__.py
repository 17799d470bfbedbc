"""Skeletons as data: joint names, limbs, left-right pairs and OKS constants, one YAML file each in this folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.data.reading import MAX_YAML_BYTES, parse_yaml, read_text, reading
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError

FIELDS = ("name", "joints", "limbs", "pairs", "sigmas")
ADVICE = "see humanoid15.yaml"


@dataclass(frozen=True)
class Skeleton:
    """The joints of a body.

    Attributes:
        name: of the skeleton.
        joints: names in the order of every array.
        limbs: pairs of joint numbers that are drawn as lines.
        pairs: (one, other) joint numbers that a mirror exchanges.
        sigmas: per joint constant k of the object key point similarity, relative to the square root of the area.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    @classmethod
    def parse(cls, data: Any, source: str) -> Skeleton:
        """A skeleton from the mapping of a YAML or JSON file.

        Raises:
            AnydiffError: a field is missing or unknown, a joint is named twice or unknown, or a sigma is not positive.
        """
        if not isinstance(data, Mapping):
            raise FileFormatError(f"{source} is no mapping; give the fields {', '.join(FIELDS)}.")
        for field in FIELDS:
            if field not in data:
                raise AnydiffError(f"{source} lacks {field!r}; give the fields {', '.join(FIELDS)}.")
        for field in data:
            if field not in FIELDS:
                raise UnknownNameError("field of a skeleton", str(field), FIELDS)
        joints = tuple(str(joint) for joint in data["joints"])
        if not joints or len(set(joints)) != len(joints):
            raise AnydiffError(f"joints of {source} are {list(joints)}, but must be different names, at least one.")
        sigmas = tuple(float(sigma) for sigma in data["sigmas"])
        if len(sigmas) != len(joints) or min(sigmas) <= 0:
            raise AnydiffError(f"sigmas of {source} are {sigmas}, but must be one positive number per joint.")
        numbers = {joint: number for number, joint in enumerate(joints)}
        limbs, pairs = (_pairs(data[field], numbers, f"{field} of {source}") for field in ("limbs", "pairs"))
        return cls(str(data["name"]), joints, limbs, pairs, sigmas)

    @property
    def mirror(self) -> NDArray[np.int64]:
        """Joint numbers in which a mirror exchanges left and right: ``keypoints[mirror]``."""
        order = np.arange(len(self.joints))
        for one, other in self.pairs:
            order[[one, other]] = other, one
        return order

    def index(self, joint: str) -> int:
        """The number of ``joint``.

        Raises:
            UnknownNameError: the skeleton has no joint of this name.
        """
        if joint not in self.joints:
            raise UnknownNameError(f"joint of the skeleton {self.name!r}", joint, self.joints)
        return self.joints.index(joint)

    def __len__(self) -> int:
        return len(self.joints)


def _pairs(value: Any, numbers: Mapping[str, int], what: str) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for entry in value:
        if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 2:
            raise AnydiffError(f"{what} holds {entry!r}, but every entry must be two joint names.")
        for joint in entry:
            if joint not in numbers:
                raise UnknownNameError(f"joint in {what}", str(joint), numbers)
        found.append((numbers[entry[0]], numbers[entry[1]]))
    return tuple(found)


def skeleton_names() -> list[str]:
    """The skeletons that come with this package."""
    folder = resources.files(__package__)
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@functools.cache
def load_skeleton(name: str) -> Skeleton:
    """The skeleton called ``name``, or the one in a YAML or JSON file of your own.

    Raises:
        UnknownNameError: no such skeleton and no such file.
        AnydiffError: the file does not describe one.
    """
    if name in skeleton_names():
        text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).suffix in (".yaml", ".yml", ".json") and Path(name).is_file():
        text = read_text(name, MAX_YAML_BYTES, "a skeleton", ADVICE)
    else:
        raise UnknownNameError("skeleton", name, skeleton_names(), "Or give the path of a YAML file.")
    with reading(name, "a skeleton", ADVICE):
        return Skeleton.parse(parse_yaml(text, f"skeleton {name!r}", ADVICE), f"skeleton {name!r}")
