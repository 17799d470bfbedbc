"""How a pose arises: the heatmaps of one estimate along the reverse process, as numbers and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from anydiff.domains.kit.pictures import picture_grid, write_picture
from anydiff.pipeline import Pipeline
from anydiff.solvers import Step
from anydiff_pose.diffpose import pose_domain
from anydiff_pose.pictures import Picture, heat_colours


def reverse_process(
    pipeline: Pipeline, clips: Tensor, *, steps: int = 8, seed: int = 0
) -> list[tuple[float, Tensor, Tensor]]:
    """(time, noisy state, D) of every step of one estimate of ``clips [N, T, 3, H, W]``."""
    seen: list[tuple[float, Tensor, Tensor]] = []

    def keep(step: Step) -> None:
        seen.append((step.t, step.state.clone(), step.prediction.clone()))

    pipeline.sample_set(len(clips), nfe=steps, seed=seed, condition={"frames": clips}, callbacks=[keep])
    return seen


def draw_reverse_process(
    pipeline: Pipeline, clip: Tensor, path: str | Path, *, joint: str = "right_wrist", steps: int = 6, seed: int = 0
) -> None:
    """Write how one joint's heatmap arises for ``clip [T, 3, H, W]``: noisy state above, D below, one column per step.

    Raises:
        UnknownNameError: no such joint.
    """
    domain = pose_domain(pipeline)
    number = domain.skeleton.index(joint)
    above: list[Picture] = []
    below: list[Picture] = []
    for _, state, prediction in reverse_process(pipeline, clip[None], steps=steps, seed=seed):
        for row, values in ((above, state), (below, prediction)):
            heat = domain.heatmaps(values[0, number].double()).numpy()
            big = np.kron(heat, np.ones((domain.stride * 2, domain.stride * 2)))
            row.append(heat_colours(big))
    write_picture(picture_grid([*above, *below], columns=len(above), dark=True), path)
