"""What a training tells its listeners, and the one thing it lets them change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from anydiff.states import Conditioning

Batch = tuple[Tensor, Conditioning]
"""States [B, *shape] float32 and what is given beside them."""


class TrainingEvents:
    """A listener that does nothing; override what you need.

    Events are told on rank 0 only, transforms on every rank.
    """

    def training_started(self, folder: Path, denoiser: Any, step: int) -> None:
        """Told once, before the first step or the resumption at ``step`` > 0."""

    def transform_batch(self, batch: Batch, step: int, positions: Sequence[int]) -> Batch | None:
        """Change a batch of clean examples before noise is added; None leaves it as it is.

        ``positions`` are the examples' numbers in the whole training. Key random changes by them, and by nothing else
        (not by their place in the batch): then resumption, accumulation and devices change nothing.
        """
        return None

    def training_step(self, folder: Path, step: int, values: Mapping[str, float]) -> None:
        """Told after each optimizer step that is logged; ``step`` counts finished steps."""

    def checkpoint_saved(self, folder: Path, step: int) -> None:
        """Told after a checkpoint is complete on disk."""
