"""Pictures of one size as states: 8-bit values mapped affinely to the state's range, channels first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from anydiff.data import encode_inputs, input_condition, read_inputs
from anydiff.data.frames import MODES, Conversion, frame_bytes, picture_bytes
from anydiff.domains import Domain, LabelledArray, Measurement
from anydiff.domains.kit import Levels
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning, Known, Leaf, StateSpec
from anydiff_images import cases
from anydiff_images.files import SUFFIXES, draw_grid, read_images, to_image, write_images
from anydiff_images.holes import read_known
from anydiff_images.measured import read_measurement

if TYPE_CHECKING:
    from anydiff.states import Condition


class Images(Domain):
    """8-bit images of one size as states ``[B, channels, height, width]``.

    A byte u in 0..255 becomes x = low + (high - low) u / 255, and back by rounding to the nearest byte after clamping,
    so ``decode(encode(images))`` is exact.

    Args:
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        height: rows.
        width: columns.
        classes: class names; None for images without labels.
        range: (low, high) of the state.
        input: whether the images are restored: then each has the condition ``input``, a degraded image of its size.
    """

    name = "images"
    suffixes = SUFFIXES
    condition_help = MappingProxyType({"label": "CLASS", "input": "FILES"})

    def __init__(
        self,
        channels: int = 1,
        height: int = 28,
        width: int = 28,
        classes: Sequence[str] | None = None,
        range: Sequence[float] = (-1.0, 1.0),
        input: bool = False,
    ) -> None:
        if channels not in MODES:
            raise AnydiffError(f"channels is {channels!r}, but images have 1 (grey), 3 (RGB) or 4 (RGBA) channels.")
        self.channels = channels
        self.height = natural_number("height", height)
        self.width = natural_number("width", width)
        self.classes = list(classes) if classes else None
        self.input = bool(input)
        self.low, self.high = (float(bound) for bound in range)
        if not self.low < self.high:
            raise AnydiffError(f"range is {tuple(range)!r}, but its first value must be below its second.")
        self.levels = Levels(self.low, self.high)
        shape = (channels, self.height, self.width)
        self._spec = StateSpec([Leaf("image", shape, range=(self.low, self.high))])

    @property
    def spec(self) -> StateSpec:
        """One leaf named ``image``, ``(channels, height, width)``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """The classes by their numbers, and whether images are restored where they are."""
        return {"classes": self.classes, **({"input": True} if self.input else {})}

    @property
    def conditions(self) -> dict[str, Condition]:
        """``label`` where the images have classes, ``input`` where they are restored."""
        from anydiff.states import ClassCondition

        found: dict[str, Condition] = {"label": ClassCondition(len(self.classes))} if self.classes else {}
        return {**found, **(input_condition(self) if self.input else {})}

    def scale(self, pixels: Tensor) -> Tensor:
        """Bytes (any shape) to float32 state values."""
        return self.levels.encode(pixels)

    def pixels(self, states: Tensor) -> Tensor:
        """States (any shape) to the nearest bytes, uint8; values outside the range are clamped."""
        return self.levels.decode(states)

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """Brightness from 0 (black) to 255, ``[B, C, H, W]``; neither rounded nor clamped, so differentiable."""
        return (states - self.low) * (255 / (self.high - self.low))

    def encode(
        self,
        objects: Sequence[Image.Image | NDArray[Any]],
        value_range: tuple[float, float] | None = None,
    ) -> Tensor:
        """States of PIL images or arrays ``[H, W]``, ``[H, W, C]`` of this domain's channels and size.

        More than eight bits become bytes by the rule of :func:`anydiff.data.frames.frame_bytes`: 16-bit numbers ``v``
        become ``v / 257``, other numbers need ``value_range``, the two that are black and white. Pillow's images are
        turned as their EXIF orientation says.

        Raises:
            AnydiffError: an image of another size or other channels, or of values that have no stated range; the
                sentence names the first.
        """
        arrays = [self._array(image, position, value_range) for position, image in enumerate(objects)]
        if not arrays:
            return torch.empty(0, *self.spec.shape)
        return self.scale(torch.from_numpy(np.stack(arrays)).movedim(-1, 1))

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Image.Image]:
        """PIL images (mode L, RGB or RGBA) of ``states [B, C, H, W]``.

        Raises:
            AnydiffError: states of another shape or with values that are not finite.
        """
        return self.pictures(states)

    def pictures(self, states: Tensor) -> list[Image.Image]:
        """PIL images of the pictures that states hold; errors as for :meth:`decode`."""
        self.spec.check(states)
        if not states.isfinite().all():
            raise AnydiffError(
                "the states hold a value that is not finite, so they are no images; look at the sampler."
            )
        return [to_image(array) for array in self.pixels(self.images_of(states)).movedim(1, -1).numpy()]

    def images_of(self, states: Tensor) -> Tensor:
        """The pictures ``[B, C, H, W]`` that states hold; here they hold nothing else."""
        return states

    def unit(self, states: Tensor) -> Tensor:
        """The pictures of states on the scale [-1, 1], whatever range the states have."""
        images = self.images_of(states)
        if (self.low, self.high) == (-1.0, 1.0):
            return images
        return (images - self.low) * (2 / (self.high - self.low)) - 1

    def _array(self, image: Any, position: int, value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
        """One image as uint8 ``[H, W, C]``, refused unless it fits this domain."""
        what = f"image {position}"
        if isinstance(image, Image.Image):
            array = picture_bytes(image, what, Conversion(value_range=value_range))
            if image.mode == "RGBA":  # as it is, so that nothing is lost on the way to states and back
                array = np.asarray(ImageOps.exif_transpose(image))
            mode, wanted = MODES[array.shape[-1]], MODES[self.channels]
            if mode != wanted:
                fix = "put it on a background with Image.paste" if mode == "RGBA" else f"use image.convert({wanted!r})"
                raise AnydiffError(f"{what} has mode {mode!r}, but this domain has {wanted!r}; {fix}.")
        else:
            array = frame_bytes(image, what, value_range)
            array = array[..., None] if array.ndim == 2 else array
        if array.shape != (self.height, self.width, self.channels):
            found = "x".join(map(str, array.shape))
            raise AnydiffError(
                f"{what} is {found} (height x width x channels), but this domain has "
                f"{self.height}x{self.width}x{self.channels}; resize or convert it."
            )
        return array

    def read(
        self,
        path: str | Path,
        value_range: tuple[float, float] | None = None,
        background: tuple[int, int, int] | None = None,
    ) -> list[Image.Image]:
        """Images of a file, of all image files in a folder (sorted by name), or of an ``.npz`` (its array ``images``).

        They are read by :mod:`anydiff.data.frames` and get this domain's channels only where no value changes: grey as
        colours, an opaque alpha channel left out.

        Args:
            path: the file or folder.
            value_range: what becomes black and white in images of more than eight bits that are not 16-bit.
            background: red, green and blue behind transparent pixels.

        Raises:
            AnydiffError: nothing there to read.
            FileFormatError: a file that is no readable image, or has values or transparent pixels of unstated meaning.
        """
        return read_images(Path(path), self.channels, Conversion(None, value_range, background))

    def read_measurement(self, path: str | Path, output: Sequence[int], mask: str | Path | None = None) -> Measurement:
        """Brightness (0 to 255) of the pictures of a file or folder, of the size that an operator gives.

        ``mask`` is one picture for all, or as many: white (255) where a pixel was observed, black (0) where not; others
        values are refused. A grey mask goes for all channels.
        """
        return read_measurement(self, Path(path), tuple(output), None if mask is None else Path(mask))

    def parse_known(self, text: str) -> Known:
        """The opaque pixels of the pictures in a file or folder; transparent ones are to be found.

        Raises:
            AnydiffError: as :func:`anydiff_images.holes.read_known` says.
        """
        return read_known(self, Path(text))

    def write(self, objects: Sequence[Image.Image], path: str | Path) -> None:
        """Write to an ``.npz`` (array ``images`` [N, H, W, C] uint8), one ``.png``, or a folder of numbered PNG files.

        Raises:
            AnydiffError: several images for one ``.png``, a folder that is not empty, or no permission.
        """
        write_images(objects, Path(path))

    def draw(self, objects: Sequence[Image.Image], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write a grid of the images to ``path`` (PNG), enlarged by a whole factor, with small titles beneath."""
        draw_grid(objects, Path(path), titles)

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"label": "sneaker"}``, an index, or a comma list cycled over ``count`` -> ``{"label": long [count]}``.

        ``{"input": PATH}``, where images are restored: those of the file or folder, cycled over ``count``.

        Raises:
            UnknownNameError: a class or a condition this domain does not have.
            AnydiffError: an index outside the classes, or no such images.
        """
        found: dict[str, Tensor] = {}
        if self.input and "input" in text:
            found["input"] = read_inputs(self, text["input"], count)
            text = {name: value for name, value in text.items() if name != "input"}
        if not text:
            return found
        return {**found, **self.parse_labels(text, count, self.conditions)}

    def parse_labels(self, text: Mapping[str, str], count: int, conditions: Collection[str]) -> dict[str, Tensor]:
        """The condition ``label`` of ``count`` samples, where it is one of the ``conditions`` that may be asked for."""
        if not text:
            return {}
        if not conditions:
            raise AnydiffError(f"these images have no classes, so {', '.join(text)} cannot be asked for; leave it out.")
        for name in text:
            if name not in conditions:
                raise UnknownNameError("condition", name, conditions)
        assert self.classes is not None
        wanted = [self._class_index(part.strip()) for part in str(text["label"]).split(",") if part.strip()]
        if not wanted:
            raise AnydiffError(f"label is {text['label']!r}, but must name a class: {', '.join(self.classes)}.")
        return {"label": torch.tensor([wanted[index % len(wanted)] for index in range(count)])}

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """The class name of each sample."""
        if not self.classes or "label" not in condition.given:
            return []
        return [self.classes[index] for index in cast("list[int]", condition.given["label"].tolist())]

    def encode_given(self, name: str, objects: Any) -> Tensor | None:
        """States of images given as ``input``; None for ``label``, which is numbers."""
        return encode_inputs(self, objects) if name == "input" else None

    def labels(self, text: Mapping[str, str]) -> list[Any] | None:
        """The name of each image that ``{"input": PATH}`` names, a case; None where it is not named."""
        return cases.names(self.read(text["input"])) if self.input and "input" in text else None

    def labelled(self, objects: Sequence[Image.Image], labels: Sequence[str], members: Sequence[int]) -> list[Any]:
        """Images that :meth:`write` calls by their cases; see :func:`anydiff_images.cases.labelled`."""
        return cases.labelled(objects, labels, members)

    def label_arrays(self, labels: Sequence[str]) -> dict[str, LabelledArray]:
        """``image [case]``: places in the list of its attribute ``names``."""
        return {"image": LabelledArray.of_texts([str(label) for label in labels])}

    def match(self, objects: Sequence[Image.Image], labels: Sequence[str]) -> list[int] | None:
        """The held-out case of each image, by the name of its file; see :func:`anydiff_images.cases.match`."""
        return cases.match(objects, labels)

    def _class_index(self, text: str) -> int:
        classes = cast("list[str]", self.classes)
        folded = [name.casefold() for name in classes]
        if text.casefold() in folded:
            return folded.index(text.casefold())
        if text.lstrip("-").isdigit():
            if not 0 <= int(text) < len(classes):
                raise AnydiffError(f"label is {text}, but the classes are numbered 0 to {len(classes) - 1}.")
            return int(text)
        near = [classes[position] for position, name in enumerate(folded) if text.casefold() in name]
        raise UnknownNameError("class", text, near or classes)
