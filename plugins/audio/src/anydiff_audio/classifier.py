"""The small classifier whose features and predictions the metrics use, and the command that trained it::

    OMP_NUM_THREADS=1 python -m anydiff_audio.classifier

It reads log-mel spectra and says number and voice. It was trained on the bundled recordings with wider changes and
another seed than the data set ``audio/numbers``. There is one recording of each number in each voice, so its accuracy,
which is stored beside the weights, is on other changes of recordings that it knows.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError
from anydiff.training import load_into, load_weights, save_weights, weights_hash
from anydiff_audio.data import Augmentation, Numbers, augmented, recordings
from anydiff_audio.names import NUMBERS, RATE, SAMPLES, VOICES
from anydiff_audio.sound import PCM16
from anydiff_audio.spectra import log_mel

WEIGHTS = Path(__file__).with_name("weights") / "classifier-numbers.safetensors"
FEATURES = 32
WIDER = Augmentation(speed=0.1, gain=8.0, shift=800, noise=-40.0)
"""The changes that it is trained on."""
_CHUNK, _REMEMBERED = 64, 8


class ClassifierNetwork(nn.Module):
    """Three convolutions over log-mel spectra, mean over time, 32 features, a layer for numbers and one for voices."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        sizes = (1, width, 2 * width, 2 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in itertools.pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes[1:])
        self.embedding = nn.Linear(2 * width * 5 * 4, FEATURES)
        self.heads = nn.ModuleDict(
            {"number": nn.Linear(FEATURES, len(NUMBERS)), "voice": nn.Linear(FEATURES, len(VOICES))}
        )

    def features(self, samples: Tensor) -> Tensor:
        """Features ``[B, 32]`` of ``samples [B, N]`` in [-1, 1]."""
        hidden = functional.avg_pool2d(log_mel(samples, RATE), (1, 2))[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = functional.max_pool2d(functional.relu(norm(convolution(hidden))), 2)
        hidden = functional.adaptive_avg_pool2d(hidden, (5, 4))
        return torch.tanh(self.embedding(hidden.flatten(1)))

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """Logits ``number [B, 28]`` and ``voice [B, 5]``."""
        features = self.features(samples)
        return {name: head(features) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Judgement:
    """What the classifier says of N sounds: features float64 ``[N, 32]``, and classes by condition, ``[N]``."""

    features: Tensor
    found: dict[str, Tensor]


class Classifier:
    """A trained classifier, in float64 so that values do not depend on batching beyond rounding.

    Attributes:
        name: ``numbers@<first 12 digits of the hash of its weights>``.
        accuracy: by condition, on the test split of ``audio/numbers``, measured when it was trained.
    """

    def __init__(self, path: Path = WEIGHTS) -> None:
        tensors, about = load_weights(path)
        self.name = f"numbers@{weights_hash(tensors)[:12]}"
        self.accuracy = {name: float(about[f"test_accuracy_{name}"]) for name in ("number", "voice")}
        network = ClassifierNetwork()
        load_into(network, tensors, str(path))
        self._network = network.double().eval().requires_grad_(False)
        self._known: OrderedDict[str, Judgement] = OrderedDict()

    def judge(self, states: Tensor) -> Judgement:
        """What it says of ``states [N, 1, 10240]`` (cut to [-1, 1]); the last few sets are remembered.

        Raises:
            AnydiffError: states of another shape.
        """
        if tuple(states.shape[1:]) != (1, SAMPLES):
            raise AnydiffError(
                f"the sounds have shape {tuple(states.shape[1:])}, but the classifier {self.name} judges "
                f"(1, {SAMPLES}) at {RATE} Hz; choose metrics of this data set."
            )
        clean = states.detach().to("cpu", torch.float64).clamp(-1, 1)[:, 0]
        key = content_hash(clean)
        if key not in self._known:
            features = torch.cat([self._network.features(chunk) for chunk in torch.split(clean, _CHUNK)])
            found = {name: head(features).argmax(1) for name, head in self._network.heads.items()}
            self._known[key] = Judgement(features, found)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


@functools.cache
def load_classifier() -> Classifier:
    """The bundled classifier."""
    return Classifier()


def train(steps: int, batch: int, rate: float, seed: int) -> ClassifierNetwork:
    """A network trained on the recordings with changes that are drawn anew at each step; prints a line now and then."""
    torch.manual_seed(seed)
    network, known = ClassifierNetwork(), recordings()
    drawn = np.random.default_rng([seed, 1_000_003])
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    start = time.perf_counter()
    for step in range(steps):
        places = torch.from_numpy(drawn.choice(len(known), batch, replace=False))
        made = [augmented(known[place] / PCM16, WIDER, drawn, SAMPLES) for place in places.tolist()]
        logits = network(torch.from_numpy(np.stack(made)).float())
        truth = {"number": places % len(NUMBERS), "voice": places // len(NUMBERS)}
        losses = [functional.cross_entropy(logits[name], truth[name], label_smoothing=0.05) for name in truth]
        loss = losses[0] + losses[1]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s", flush=True)
    return network.eval()


@torch.no_grad()
def accuracy(network: ClassifierNetwork, data: Numbers) -> dict[str, float]:
    """Share of ``data`` whose number and whose voice are found."""
    right = {"number": 0, "voice": 0}
    for start in range(0, len(data), _CHUNK):
        states, condition = data.batch(range(start, min(start + _CHUNK, len(data))))
        for name, logits in network(states[:, 0]).items():
            right[name] += int((logits.argmax(1) == condition.given[name]).sum())
    return {name: count / len(data) for name, count in right.items()}


def main(out: Path, steps: int = 500, batch: int = 48, rate: float = 4e-3, seed: int = 7) -> None:
    """Train the classifier and write it to ``out``."""
    torch.use_deterministic_algorithms(True)
    test = Numbers("test")
    network = train(steps, batch, rate, seed)
    shares = accuracy(network, test)
    about = {
        **{f"test_accuracy_{name}": f"{share:.4f}" for name, share in shares.items()},
        "data_hash": test.hash,
        "test_sounds": str(len(test)),
        "command": "python -m anydiff_audio.classifier",
        "schedule": f"{steps} steps of {batch}, learning rate {rate}, seed {seed}, {WIDER}",
    }
    save_weights(out, network.state_dict(), about, overwrite=True)
    print(f"{out}: {out.stat().st_size} bytes, test accuracy {shares} on {len(test)} sounds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the classifier of the spoken numbers.")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    main(parser.parse_args().out)
