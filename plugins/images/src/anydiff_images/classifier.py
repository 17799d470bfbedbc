"""The small classifiers whose features and predictions the metrics use, and the commands that trained them::

    anydiff data get images/fashion-mnist
    OMP_NUM_THREADS=1 python -m anydiff_images.classifier fashion-mnist
    anydiff data get images/cifar10 --accept-licence
    OMP_NUM_THREADS=1 python -m anydiff_images.classifier cifar10

They write ``weights/classifier-<name>.safetensors``; the first is part of this package, the second not yet. A
classifier is named by the hash of its weights, so a number says exactly which features it was computed with. Training
is deterministic on one machine and one thread (seeded initialisation, order and augmentation).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.training import load_into, load_weights, save_weights, weights_hash

if TYPE_CHECKING:
    from anydiff_images.data import ImageDataset

WEIGHTS = Path(__file__).with_name("weights")
FEATURES = 64
_CHUNK = 256
_REMEMBERED = 8


class ClassifierNetwork(nn.Module):
    """Three 3x3 convolutions with batch normalisation, two poolings, mean over places, 64 features, one linear layer.

    Args:
        channels: of the images.
        classes: number of classes.
        width: channels of the first convolution; 32, 64, 128 for width 32.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in widths[1:])
        self.embedding = nn.Linear(widths[-1], FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """Features ``[B, 64]``, not negative, of ``images [B, C, H, W]`` in [-1, 1]."""
        hidden = images
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            hidden = functional.relu(norm(convolution(hidden)))
            if index < len(self.convolutions) - 1:
                hidden = functional.max_pool2d(hidden, 2)
        return functional.relu(self.embedding(hidden.mean(dim=(2, 3))))

    def forward(self, images: Tensor) -> Tensor:
        """Class logits ``[B, classes]``."""
        logits: Tensor = self.head(self.features(images))
        return logits


@dataclass(frozen=True)
class Judgement:
    """What the classifier says of N images: features float64 ``[N, 64]`` and logits float64 ``[N, classes]``."""

    features: Tensor
    logits: Tensor


class Classifier:
    """A trained classifier, in float64 so that values do not depend on batching beyond rounding.

    Attributes:
        name: ``<data>@<first 12 digits of the hash of its weights>``.
        accuracy: on the complete test split, measured when it was trained.
        classes: the class names it was trained with.
        shape: ``(C, H, W)`` of its images.
    """

    def __init__(self, path: Path) -> None:
        tensors, about = load_weights(path)
        self.hash = weights_hash(tensors)
        self.name = f"{about['data']}@{self.hash[:12]}"
        self.accuracy = float(about["test_accuracy"])
        self.classes: list[str] = json.loads(about["classes"])
        self.shape: tuple[int, ...] = tuple(json.loads(about["shape"]))
        network = ClassifierNetwork(self.shape[0], len(self.classes), int(about["width"]))
        load_into(network, tensors, str(path))
        self._network = network.double().eval().requires_grad_(False)
        self._known: OrderedDict[str, Judgement] = OrderedDict()

    def judge(self, images: Tensor) -> Judgement:
        """Features and logits of ``images [N, C, H, W]`` in [-1, 1] (clamped); the last few sets are remembered.

        Raises:
            AnydiffError: images of another shape than the classifier's.
        """
        self._check_shape(images)
        clean = images.detach().to("cpu", torch.float64).clamp(-1, 1)
        key = content_hash(clean)
        if key not in self._known:
            features = torch.cat([self._network.features(chunk) for chunk in torch.split(clean, _CHUNK)])
            self._known[key] = Judgement(features, self._network.head(features))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def features(self, images: Tensor) -> Tensor:
        """Features float64 ``[N, 64]`` of ``images [N, C, H, W]``, differentiable by them and not clamped.

        Raises:
            AnydiffError: images of another shape than the classifier's.
        """
        self._check_shape(images)
        return self._network.features(images.double().cpu()).to(images.device)

    def _check_shape(self, images: Tensor) -> None:
        if tuple(images.shape[1:]) != self.shape:
            raise AnydiffError(
                f"the images have shape {tuple(images.shape[1:])}, but the classifier {self.name} judges {self.shape}; "
                "choose the metrics of this data set."
            )


def bundled_classifiers() -> list[str]:
    """Names of the classifiers that are part of this package."""
    return sorted(file.stem.removeprefix("classifier-") for file in WEIGHTS.glob("classifier-*.safetensors"))


@functools.cache
def load_classifier(name: str) -> Classifier:
    """The bundled classifier called ``name``, such as ``"fashion-mnist"``.

    Raises:
        UnknownNameError: there is none of this name.
    """
    path = WEIGHTS / f"classifier-{name}.safetensors"
    if not path.is_file():
        raise UnknownNameError("classifier", name, bundled_classifiers())
    return Classifier(path)


@dataclass(frozen=True)
class Schedule:
    """How a classifier is trained: AdamW with a one-cycle learning rate; shifts and mirror images as augmentation."""

    epochs: int
    batch: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    smoothing: float = 0.05
    shift: int = 0
    mirror: bool = False
    width: int = 32
    seed: int = 0


SCHEDULES = {"fashion-mnist": Schedule(epochs=7, shift=1), "cifar10": Schedule(epochs=8, shift=2, mirror=True)}


def train(data: ImageDataset, schedule: Schedule) -> ClassifierNetwork:
    """A network trained on all of ``data``; prints one line per epoch."""
    torch.manual_seed(schedule.seed)
    network = ClassifierNetwork(data.domain.channels, len(data.classes or []), schedule.width)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.7 times as fast on a CPU
    steps = schedule.epochs * (len(data) // schedule.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=steps, pct_start=0.2)
    generator = torch.Generator().manual_seed(schedule.seed)
    loss_function = nn.CrossEntropyLoss(label_smoothing=schedule.smoothing)
    for epoch in range(schedule.epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(data), generator=generator)
        for indices in torch.split(order, schedule.batch)[: len(data) // schedule.batch]:
            states, condition = data.batch(indices.tolist())
            loss = loss_function(network(_augment(states, schedule, generator)), condition.given["label"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rates.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1}: loss {total * schedule.batch / len(data):.4f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    network.eval()
    return network


def _augment(states: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """The batch, moved as a whole by up to ``shift`` pixels, and mirrored image by image."""
    if schedule.shift:
        down, right = (torch.randint(-schedule.shift, schedule.shift + 1, (2,), generator=generator)).tolist()
        margin = schedule.shift
        padded = functional.pad(states, (margin,) * 4, value=-1.0)
        height, width = states.shape[2:]
        states = padded[:, :, margin + down : margin + down + height, margin + right : margin + right + width]
    if schedule.mirror:
        flip = torch.rand(len(states), generator=generator) < 0.5
        states = torch.where(flip[:, None, None, None], states.flip(-1), states)
    return states


@torch.no_grad()
def accuracy(network: ClassifierNetwork, data: ImageDataset) -> float:
    """Share of ``data`` that is classified correctly."""
    right = 0
    for start in range(0, len(data), 500):
        states, condition = data.batch(range(start, min(start + 500, len(data))))
        right += int((network(states).argmax(dim=1) == condition.given["label"]).sum())
    return right / len(data)


def main(name: str, path: Path | None, out: Path) -> None:
    """Train the classifier of ``name`` on the complete training split and write it to ``out``."""
    from anydiff_images.data import CIFAR10, FashionMNIST

    torch.use_deterministic_algorithms(True)
    if name == "fashion-mnist":
        training, test = (FashionMNIST(split, "full", path) for split in ("train", "test"))
    else:
        training, test = (CIFAR10(split, path) for split in ("train", "test"))  # type: ignore[assignment]
    network = train(training, SCHEDULES[name])
    share = accuracy(network, test)
    about = {
        "data": name,
        "data_hash": training.hash,
        "classes": json.dumps(training.classes),
        "shape": json.dumps(list(training.spec.shape)),
        "width": str(SCHEDULES[name].width),
        "test_accuracy": f"{share:.4f}",
        "test_images": str(len(test)),
        "command": f"python -m anydiff_images.classifier {name}",
        "schedule": repr(SCHEDULES[name]),
    }
    save_weights(out, network.state_dict(), about, overwrite=True)
    size = sum(parameter.numel() for parameter in network.parameters())
    print(f"{out}: {size} parameters, {os.path.getsize(out)} bytes, test accuracy {share:.4f} on {len(test)} images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a feature classifier.")
    parser.add_argument("name", choices=sorted(SCHEDULES))
    parser.add_argument("--path", type=Path, help="the data, if not fetched by 'anydiff data get'")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    main(arguments.name, arguments.path, arguments.out or WEIGHTS / f"classifier-{arguments.name}.safetensors")
