"""What the benchmark measures on poses, and what a model must beat: the mean pose and heatmap regression."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.pipeline import load
from anydiff.states import Conditioning
from anydiff.tasks import Task
from anydiff_pose.domain import Poses


def video() -> Task:
    """Key points of 240 rendered clips that share no moment with the training data, one estimate each."""
    return Task(
        name="pose/video",
        version=1,
        recipe="pose/video",
        help="key points of a person in three frames of rendered video, with occlusion, blur and company",
        samples=240,
        minimum_cases=32,
        baselines={"mean pose": "anydiff_pose.tasks:mean_pose", "regression": "anydiff_pose.tasks:regression"},
    )


def mean_pose(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The mean of the training key points in the crop, for everybody: states ``[count, J, h, w]``."""
    truth = training_data.batch(range(len(training_data)))[1].truth
    labelled = truth["visibility"].numpy() > 0
    points = truth["keypoints"].numpy()
    mean = np.where(labelled[..., None], points, 0).sum(axis=0) / np.maximum(labelled.sum(axis=0), 1)[:, None]
    domain = training_data.domain
    assert isinstance(domain, Poses)
    states = domain.states(torch.from_numpy(mean)[None], torch.ones(1, len(mean), dtype=torch.bool))
    return states.expand(count, *states.shape[1:]).clone()


def regression(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """Heatmap regression from the keyframe alone (recipe ``pose/regression`` with its weights)."""
    return load("pose/regression").sample_set(count, condition=condition, seed=seed).states
