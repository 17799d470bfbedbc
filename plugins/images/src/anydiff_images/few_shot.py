"""A handful of pictures in another style, and the recipe that adapts ``images/fashion`` to them.

DomainStudio (arXiv:2306.14153) is for about ten pictures of a new domain. Those that are bundled are drawings: ten
pictures of four classes of Fashion-MNIST, inverted, with thickened edges. Any folder of pictures will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anydiff.data.frames import Conversion, picture_files
from anydiff.domains import Domain
from anydiff.domains.kit import SPLITS, Split, check_split
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.recipes import Recipe
from anydiff.states import Conditioning
from anydiff_images.classes import FASHION_CLASSES
from anydiff_images.data import FashionMNIST, ImageDataset
from anydiff_images.domain import Images
from anydiff_images.folder import read_same
from anydiff_images.recipes import fashion

FOUR = ("T-shirt/top", "Trouser", "Sneaker", "Bag")


class FewShot(ImageDataset):
    """A few pictures, without labels: drawings of Fashion-MNIST, or those of a folder.

    For training there are ``count`` drawings of a few classes, each class in turn; held out are drawings of all 2,000
    bundled test pictures of all classes. Of a folder all pictures are for training; where it has folders ``train`` and
    ``test``, those are the splits. Pictures of a folder are cropped, resized and converted to those of the domain.

    Args:
        split: ``"train"`` or ``"test"``.
        path: a folder of pictures; None for drawings of Fashion-MNIST.
        count: drawings for training.
        classes: of the drawings for training.
        seed: which pictures of these classes they are.
        domain: the recipe's, whose classes stay what the network can be asked for.

    Raises:
        UnknownNameError: no such class.
        AnydiffError: a folder without pictures, or held-out ones of a folder that has none.
    """

    def __init__(
        self,
        split: Split = "train",
        path: str | Path | None = None,
        count: int = 10,
        classes: Sequence[str] = FOUR,
        seed: int = 0,
        domain: Domain | None = None,
    ) -> None:
        check_split(split)
        own = domain if isinstance(domain, Images) else None
        if path is None:
            pixels = drawings(split, natural_number("count", count), classes, seed)
        else:
            pixels = _of_folder(Path(path).expanduser(), split, own)
        names = own.classes if own is not None else list(FASHION_CLASSES)
        super().__init__("images/few-shot", pixels, None, names, domain)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, C, H, W]``; where the domain has classes, the label is absent in every row."""
        states, condition = super().batch(indices)
        if not self.classes:
            return states, condition
        rows = len(states)
        unknown = condition.with_given(label=torch.zeros(rows, dtype=torch.long))
        return states, unknown.hidden(["label"], torch.ones(rows, dtype=torch.bool))


def drawings(split: str, count: int, classes: Sequence[str], seed: int) -> NDArray[np.uint8]:
    """The drawings of a split, ``[N, 1, 28, 28]``; see :class:`FewShot`."""
    data = FashionMNIST("train" if split == "train" else "test")
    assert data.labels is not None  # Fashion-MNIST has classes
    if split == "test":
        return drawn(data.pixels).numpy()
    names = [name.casefold() for name in FASHION_CLASSES]
    for name in classes:
        if str(name).casefold() not in names:
            raise UnknownNameError("class of Fashion-MNIST", str(name), FASHION_CLASSES)
    if not classes:
        raise AnydiffError("classes is empty, but must name at least one class of Fashion-MNIST.")
    random = np.random.default_rng([seed, 14])
    order = [random.permutation(np.flatnonzero(data.labels == names.index(str(name).casefold()))) for name in classes]
    available = sum(map(len, order))
    if count > available:
        raise AnydiffError(f"count is {count}, but these classes have {available} bundled pictures; ask for fewer.")
    rows = [order[k % len(order)][k // len(order)] for k in range(count)]
    return drawn(data.pixels[rows]).numpy()


def drawn(pixels: Tensor) -> Tensor:
    """Bytes ``[N, C, H, W]`` of bright things on black as dark drawings on white.

    A drawing is 255 - min(255, picture/2 + edges), edges being the greatest less the least of the 3 x 3 pixels around:
    lines of two pixels.
    """
    values = pixels.float()
    edges = functional.max_pool2d(values, 3, 1, 1) + functional.max_pool2d(-values, 3, 1, 1)
    return (255 - (values / 2 + edges).clamp(max=255)).round().to(torch.uint8)


def _of_folder(folder: Path, split: str, domain: Images | None) -> NDArray[np.uint8]:
    if not folder.is_dir():
        raise AnydiffError(f"the image folder {str(folder)!r} does not exist; check path.")
    if all((folder / name).is_dir() for name in SPLITS):
        folder = folder / split
    elif split == "test":
        raise AnydiffError(
            f"all pictures of {str(folder)!r} are for training, so none is held out; put them into its folders train "
            "and test."
        )
    files = picture_files(folder)
    if not files:
        raise AnydiffError(f"{str(folder)!r} holds no pictures; put a few into it.")
    size = None if domain is None else (domain.height, domain.width)
    channels = None if domain is None else domain.channels
    return read_same(files, size, Conversion.of(channels, None, None))


def fashion_few_shot() -> Recipe:
    """The bundled weights of ``images/fashion`` adapted to ten drawings by DomainStudio.

    The weights of the terms are those of the script that was released for text: with 5 the pairs hardly count.
    """
    base = fashion().model_dump(mode="json")
    pairs = {"name": "pair-similarities"}
    terms: dict[str, Any] = {
        "denoising": {"weight": 1.0, "options": base["objective"]["options"]},
        "pictures": {**pairs, "weight": 100.0},
        "details": {**pairs, "weight": 100.0, "options": {"of_details": True}},
        "wavelet-details": {"weight": 0.1},
    }
    recipe = {
        **base,
        "name": "images/fashion-few-shot",
        "help": "images/fashion adapted to ten drawings, its variety kept (DomainStudio)",
        "dataset": "images/few-shot",
        "objective": {"name": "sum", "options": {"terms": terms}},
        "method": "shared-time",
        "companions": {"source": "images/fashion"},
        "start": "images/fashion",
        "training": {
            "steps": 500,
            "batch_size": 10,
            "learning_rate": 1e-4,
            "ema_decay": 0.99,
            "condition_dropout": 0.1,
            "checkpoint_every": 100,
            "log_every": 10,
        },
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 10, "grid": "karras", "guidance": [{"name": "clamp"}]},
        "metrics": [part for part in base["metrics"] if part["name"] != "images/class-consistency"],
    }
    return Recipe.parse(recipe, "recipe 'images/fashion-few-shot'")
