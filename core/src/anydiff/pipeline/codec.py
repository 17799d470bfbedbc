"""What an autoencoder is judged by beside its recipe's metrics: the error, and of a codebook how it is used."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from anydiff.metrics import MetricCard, SampleSet, Score
from anydiff.pipeline.latent import Latent


def codec_scores(space: Latent, reconstructions: SampleSet, reference: SampleSet) -> dict[str, Score]:
    """Scores of reconstructions of the first rows of ``reference``.

    ``codec/squared-error``, the mean over entries; and of a codebook of K codes, over all positions of all examples:
    ``codec/entropy`` H = -Σ p_k log2 p_k of their frequencies in bits, ``codec/perplexity`` 2^H (how many codes seem to
    be in use), ``codec/dead-codes`` that no position has, and ``codec/bits``, log2 K times the positions of an example.
    """
    rows = len(reconstructions)
    states = reference.states[:rows]
    error = (reconstructions.states.double() - states.double()).square().mean()
    found = {"squared-error": _score("squared-error", float(error), rows, "1", math.inf, "lower")}
    leaf = space.spec.leaves[0]
    if leaf.classes is None:
        return _named(found)
    share = usage(space.to_latent(states), leaf.classes)
    entropy = float(-(share[share > 0] * share[share > 0].log2()).sum())
    most = math.log2(leaf.classes)
    found |= {
        "entropy": _score("entropy", entropy, rows, "bit", most, "higher"),
        "perplexity": _score("perplexity", 2**entropy, rows, "code", leaf.classes, "higher"),
        "dead-codes": _score("dead-codes", float((share == 0).sum()), rows, "code", leaf.classes, "lower"),
        "bits": _score("bits", most * leaf.size, rows, "bit", math.inf, "lower"),
    }
    return _named(found)


def usage(codes: Tensor, classes: int) -> Tensor:
    """The share of positions with each code, float64 ``[classes]``."""
    counts = torch.bincount(codes.flatten(), minlength=classes).double()
    return counts / counts.sum()


def _score(name: str, value: float, rows: int, unit: str, most: float, direction: Literal["lower", "higher"]) -> Score:
    ideal = 0.0 if direction == "lower" else most
    return Score(value, MetricCard(f"codec/{name}", direction, unit, (0.0, most), ideal, 1), rows)


def _named(found: dict[str, Score]) -> dict[str, Score]:
    return {f"codec/{name}": score for name, score in found.items()}
