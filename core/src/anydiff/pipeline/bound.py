"""A bound of the log-likelihood of classes, which have no flow: the masked cross-entropy, averaged over levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number
from anydiff.objectives.masked_cross_entropy import MaskedCrossEntropy, masked
from anydiff.pipeline.conditions import Asked
from anydiff.states import NoiseSource, uniform

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


@torch.no_grad()
def bound(
    pipeline: Pipeline, objects: Sequence[Any], condition: Asked | None, draws: int, seed: int, batch_size: int
) -> Tensor:
    """An upper bound of -log p in nats, float64 ``[B]``, of native ``objects``.

    The λ-form of :class:`~anydiff.objectives.MaskedCrossEntropy` at ``draws`` levels that are spread evenly over (0, 1)
    from a start of each object's own. Unbiased for any number of draws; object b depends on (seed, b) alone.

    Raises:
        AnydiffError: no objects, or a path that is not masked.
    """
    natural_number("draws", draws)
    if not len(objects):
        raise AnydiffError("there are no objects to score; give at least one.")
    masked(pipeline.denoiser.path)
    states = pipeline.domain.encode(objects)
    given = pipeline.conditioning(condition, len(states))
    source = NoiseSource(pipeline.domain.spec, seed, pipeline.denoiser.path.noise_law)
    objective, numbers = MaskedCrossEntropy("lambda"), range(len(states))
    begin = uniform(seed, numbers, 0, "bound")
    total = torch.zeros(len(states), dtype=torch.float64)
    for draw in range(draws):
        level = ((begin + draw / draws) % 1).clamp_min(2.0**-54)
        noise = source.draw(numbers, draw + 1)
        for first in range(0, len(states), batch_size):
            rows = slice(first, first + batch_size)
            loss = objective(pipeline.denoiser, states[rows], noise[rows], level[rows], given.rows(rows))
            total[rows] += loss.double()
    return total / draws * pipeline.domain.spec.size
