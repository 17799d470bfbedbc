"""SADM (Yoon et al. 2023, arXiv:2212.08228): the missing frames of a sequence of volumes, one after the other.

A model of :class:`anydiff_volumes.networks.SequenceUNet` draws one frame given those before it; the outer loop
:func:`anydiff.autoregressive.rollout` puts what was drawn back as context and goes on. Frames that are given stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.autoregressive import Context, Rollout, rollout
from anydiff.errors import AnydiffError
from anydiff.pipeline import Pipeline
from anydiff.states import Conditioning


def sequence_condition(frames: Tensor, seen: Tensor, times: Tensor, target: int) -> Conditioning:
    """The conditions of frame ``target``, from frames ``[B, T, X, Y, Z]``, seen bool ``[B, T]``, times ``[B, T]``."""
    before = seen.clone()
    before[:, target:] = False
    return Conditioning(
        {
            "frames": torch.where(before[:, :, None, None, None], frames, 0),
            "seen": before.float(),
            "times": torch.where(before, times, 0).float(),
            "target_time": times[:, target : target + 1].float(),
        }
    )


def generate(
    pipeline: Pipeline,
    frames: Tensor,
    seen: Tensor,
    times: Tensor,
    *,
    positions: Sequence[int] | None = None,
    seed: int = 0,
    samples: Sequence[int] | None = None,
    **options: Any,
) -> Rollout:
    """Fill in the frames of sequences that are missing, in the order of time, each from all that is known before it.

    Args:
        pipeline: of a recipe such as ``volumes/sadm``.
        frames: states ``[B, T, X, Y, Z]`` in [-1, 1]; what stands where nothing was seen has no influence.
        seen: bool ``[B, T]``; the first frame of each sequence must be seen.
        times: of all frames, those to be drawn included ``[B, T]``.
        positions: which frames to fill in; by default all that are missing.
        seed: whole number.
        samples: the number of each row's random stream; by default 0, 1, ...
        options: of :meth:`anydiff.pipeline.Pipeline.sample_set`: nfe, solver, guidance, ...

    Raises:
        AnydiffError: frames, seen and times that do not belong together, or a sequence whose first frame is missing.
    """
    if seen.shape != frames.shape[:2] or times.shape != frames.shape[:2]:
        raise AnydiffError(
            f"frames hold {tuple(frames.shape[:2])} sequences and frames, but seen is {tuple(seen.shape)} and times "
            f"{tuple(times.shape)}; sequences of unequal length are padded with frames that are not seen."
        )
    if not bool(seen[:, 0].all()):
        row = int((~seen[:, 0]).nonzero()[0])
        raise AnydiffError(f"sequence {row} begins with a missing frame; leave out what lies before its first frame.")
    if bool((times.diff(dim=1) <= 0).any()):
        raise AnydiffError("times do not increase from frame to frame; sort the frames of each sequence.")
    numbers = range(len(frames)) if samples is None else samples

    def draw(context: Context) -> Tensor:
        target = context.targets.start
        condition = sequence_condition(context.values, context.known, times[context.rows], target)
        rows = [numbers[row] for row in context.rows]
        made = pipeline.sample_set(rows, seed=context.seed, condition=condition, **options).states
        # What is fed back must look like data: the same range.
        return made.clamp(-1, 1)

    return rollout(draw, frames, seen, positions=positions, seed=seed)
