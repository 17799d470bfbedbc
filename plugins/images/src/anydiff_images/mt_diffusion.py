"""Pictures with their labels in one diffusion: MT-Diffusion (ICLR 2024, arXiv 2407.17571), image and label.

The label is a part of the state and no condition: a sample is a picture with the label that belongs to it. Either may
be known: ``--condition label=sneaker`` asks for pictures, ``--known FILES`` for the labels of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anydiff.domains import Domain
from anydiff.domains.kit import Split, domain_of_data
from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet
from anydiff.recipes import Recipe
from anydiff.states import Conditioning, Known, Leaf, StateSpec
from anydiff_images.classes import FASHION_CLASSES
from anydiff_images.classifier import load_classifier
from anydiff_images.data import FashionMNIST
from anydiff_images.domain import Images
from anydiff_images.files import LABEL, labels_in
from anydiff_images.metrics import share_card


class LabelledImages(Images):
    """Pictures with their labels as states ``[B, pixels + classes]``: the leaves ``image`` and ``label``, one-hot.

    The label of a picture is the name of its class in Pillow's ``info["label"]``; files keep it.

    Args:
        classes: class names, at least two.
        channels: as for :class:`~anydiff_images.domain.Images`.
        height: rows.
        width: columns.
        range: (low, high) of the pixels' states.

    Raises:
        AnydiffError: fewer than two classes, or one twice.
    """

    name = "images/labelled"
    fixes = ("label",)

    def __init__(
        self,
        classes: Sequence[str],
        channels: int = 1,
        height: int = 28,
        width: int = 28,
        range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(channels, height, width, classes, range)
        self.names = list(classes)
        if len(self.names) < 2 or len({name.casefold() for name in self.names}) < len(self.names):
            raise AnydiffError(f"classes is {self.names}, but must name at least two classes, each once.")
        self.labelled_spec = StateSpec([*super().spec.leaves, Leaf("label", (len(self.names),), range=(0.0, 1.0))])

    @property
    def spec(self) -> StateSpec:
        """The leaves ``image``, ``(channels, height, width)``, and ``label``, ``(classes,)``."""
        return self.labelled_spec

    @property
    def conditions(self) -> dict[str, Any]:
        """None: the label is a part of the state."""
        return {}

    def images_of(self, states: Tensor) -> Tensor:
        """The pictures ``[B, channels, height, width]`` of states."""
        return self.spec.unpack(states.contiguous())["image"]

    def labels_of(self, states: Tensor) -> Tensor:
        """The class ``[B]`` of each state: the greatest entry of its label."""
        return self.spec.unpack(states.contiguous())["label"].argmax(1)

    def joined(self, images: Tensor, labels: Tensor) -> Tensor:
        """States of pictures ``[B, channels, height, width]`` and class numbers ``[B]``."""
        one_hot = torch.nn.functional.one_hot(labels.long(), len(self.names)).to(images)
        return self.spec.pack({"image": images, "label": one_hot})

    def encode(
        self, objects: Sequence[Image.Image | NDArray[Any]], value_range: tuple[float, float] | None = None
    ) -> Tensor:
        """States of Pillow images with a label.

        Raises:
            AnydiffError: an image without label, or as :meth:`Images.encode` does.
        """
        labels = [self._label(image, place) for place, image in enumerate(objects)]
        return self.joined(self._pictures(objects, value_range), torch.tensor(labels, dtype=torch.long))

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Image.Image]:
        """Pillow images with their labels."""
        images = self.pictures(states)
        for image, label in zip(images, self.labels_of(states).tolist(), strict=True):
            image.info[LABEL] = self.names[label]
        return images

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """Brightness of the pictures from 0 (black) to 255, ``[B, C, H, W]``, differentiable."""
        return super().in_units(self.images_of(states), condition)

    def read(self, path: str | Path, *how: Any, **conversion: Any) -> list[Image.Image]:
        """Images as :meth:`Images.read` gives them, each with its label where the file tells one."""
        images = super().read(path, *how, **conversion)
        for image, label in zip(images, labels_in(Path(path), len(images)), strict=True):
            if label is not None:
                image.info[LABEL] = label
        return images

    def draw(self, objects: Sequence[Image.Image], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """A grid of the pictures, each with its label."""
        labels = [str(image.info.get(LABEL, "")) for image in objects]
        super().draw(objects, path, titles or (labels if all(labels) else None))

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"label": "sneaker"}``, as :class:`Images` understands it."""
        return self.parse_labels(text, count, self.fixes)

    def known_entries(self, condition: Conditioning) -> Known | None:
        """The label as known entries of the state; None where none is given.

        Raises:
            AnydiffError: a label that is no class number of these classes.
        """
        labels = condition.given.get("label")
        if labels is None:
            return None
        wrong = labels[(labels < 0) | (labels >= len(self.names))] if not labels.is_floating_point() else labels[:1]
        if wrong.numel():
            raise AnydiffError(
                f"label is {wrong[0].item():g}, but the classes are numbered 0 to {len(self.names) - 1}."
            )
        images = torch.zeros(len(labels), self.channels, self.height, self.width, device=labels.device)
        return self._known(self.joined(images, labels), "label")

    def parse_known(self, text: str) -> Known:
        """The pictures of a file or folder as known parts of states ``[B, pixels + classes]``; their labels are not."""
        images = self._pictures(self.read(text), None)
        return self._known(self.joined(images, torch.zeros(len(images))), "image")

    def _pictures(self, objects: Sequence[Any], value_range: tuple[float, float] | None) -> Tensor:
        return Images(self.channels, self.height, self.width, None, (self.low, self.high)).encode(objects, value_range)

    def _known(self, states: Tensor, part: str) -> Known:
        leaves = self.spec.unpack(states)
        mask = {name: torch.full_like(leaf, name == part, dtype=torch.bool) for name, leaf in leaves.items()}
        return Known(states, self.spec.pack(mask))

    def _class_index(self, text: str) -> int:
        """The class of a name or number; a word that is in the name of one class alone says it too: boot."""
        said = [place for place, name in enumerate(self.names) if text.casefold() in name.casefold().split()]
        return said[0] if len(said) == 1 else super()._class_index(text)

    def _label(self, image: Any, place: int) -> int:
        label = image.info.get(LABEL) if isinstance(image, Image.Image) else None
        if label is None:
            raise AnydiffError(
                f"image {place} has no label, which is a part of it here; set image.info['label'] to one of "
                f"{', '.join(self.names)}."
            )
        return self._class_index(str(label))


class LabelledFashion(FashionMNIST):
    """Fashion-MNIST whose labels are a part of the states (:class:`LabelledImages`).

    Args:
        split: ``"train"`` or ``"test"``.
        part: ``"bundled"`` or ``"full"``; see :class:`~anydiff_images.data.FashionMNIST`.
        path: for ``"full"``, as there.
        domain: the recipe's.
    """

    def __init__(
        self, split: Split = "train", part: str = "bundled", path: str | Path | None = None,
        domain: Domain | None = None,
    ) -> None:  # fmt: skip
        super().__init__(split, part, path)  # type: ignore[arg-type]  # checked there
        self.name = "images/fashion-labelled"
        own = {"classes": list(FASHION_CLASSES), "channels": 1, "height": 28, "width": 28}
        fits = isinstance(domain, LabelledImages) and {each: getattr(domain, each) for each in own} == own
        self._labelled = domain_of_data(LabelledImages, domain if fits else None, own)

    @property
    def domain(self) -> LabelledImages:
        """The codec of the pictures with their labels."""
        return self._labelled

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, 794]``; nothing is given beside them."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        assert self.labels is not None
        return self._labelled.joined(self._labelled.scale(self.pixels[rows]), self.labels[rows]), Conditioning()


class LabelAgreement(Metric):
    """Share of pictures whose own label is what a classifier says of them.

    Labels drawn alone agree with one in as many as there are classes; real pictures reach the classifier's accuracy.

    Args:
        classifier: ``"fashion-mnist"``.
    """

    def __init__(self, classifier: str = "fashion-mnist") -> None:
        self.classifier = load_classifier(classifier)

    @property
    def card(self) -> MetricCard:
        """Higher is better; names the classifier and its accuracy on real test images."""
        return share_card("images/label-agreement", self.classifier)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Share in [0, 1]; the reference is only checked.

        Raises:
            AnydiffError: samples without labels of their own, or of other classes than the classifier's.
        """
        self.check(samples, reference)
        domain = samples.domain
        if not isinstance(domain, LabelledImages) or domain.names != self.classifier.classes:
            raise AnydiffError(
                f"label-agreement needs pictures with labels (domain images/labelled) of the classes of the classifier "
                f"{self.classifier.name}: {', '.join(self.classifier.classes)}."
            )
        said = self.classifier.judge(domain.unit(samples.states)).logits.argmax(dim=1)
        return float((said == domain.labels_of(samples.states).to(said)).double().mean())


def fashion_joint() -> Recipe:
    """Fashion-MNIST, picture and label from one diffusion; 10,000 bundled images."""
    recipe = {
        "name": "images/fashion-joint",
        "help": "Fashion-MNIST, pictures and their labels from one diffusion; trained on the bundled 10,000 images",
        "domain": {"name": "images/labelled", "options": {"classes": list(FASHION_CLASSES)}},
        "latent": {
            "parts": {
                "image": {"encoder": "identity"},
                "label": {"encoder": "codes", "shape": [1, 28, 28], "weight": 0.3},
            }
        },
        "dataset": "images/fashion-labelled",
        "network": {
            "name": "heads",
            "options": {
                "predicts": ["edm", "image"],
                "vectors": {"label": len(FASHION_CLASSES)},
                "backbone": "unet",
                "options": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch_size": 2},
            },
        },
        "path": "vp-cosine",
        "parametrization": "edm",
        "sigma_data": 0.5,
        "objective": {
            "name": "mt-diffusion",
            "options": {
                "heads": {"image": {"weight": 0.5}, "label": {"weight": 0.1, "weighting": "signal"}},
                "denoising": {"weighting": "edm", "times": "log-normal", "times_mean": -0.5, "times_std": 1.3},
            },
        },
        "training": {
            "steps": 2800,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.995,
            "checkpoint_every": 500,
        },
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 20, "grid": "karras"},
        "metrics": [
            {"name": "images/label-agreement", "options": {"classifier": "fashion-mnist"}},
            *(
                {"name": f"images/{name}", "options": {"features": "fashion-mnist"}}
                for name in ("frechet-distance", "kernel-distance", "precision", "recall")
            ),
        ],
    }
    return Recipe.parse(recipe, "recipe 'images/fashion-joint'")
