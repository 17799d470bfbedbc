"""PoseTrack's average precision, of each joint over frames of several people, and the groups of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet
from anydiff_pose.heatmaps import Reduction
from anydiff_pose.metrics import Array, Flags, Judged, judge
from anydiff_pose.skeletons import Skeleton


@dataclass(frozen=True)
class Frame:
    """People of one frame for PoseTrack's AP: truth ``[G, J, 2]`` and predictions ``[P, J, 2]``.

    Attributes:
        truth: key points.
        labelled: bool ``[G, J]``.
        head_size: ``[G]``.
        keypoints: predicted.
        scores: of each predicted joint ``[P, J]``.
    """

    truth: Array
    labelled: Flags
    head_size: Array
    keypoints: Array
    scores: Array


def posetrack_average_precision(frames: Sequence[Frame], alpha: float = 0.5) -> Array:
    """PoseTrack's AP of each joint ``[J]`` in [0, 1] (NaN for a joint that is never labelled).

    A joint matches at a distance <= alpha head sizes. Per frame, with PCK of a pair = matched joints / labelled joints
    of the truth: each prediction keeps its best truth, each truth takes its best prediction if PCK > 0; all joints of
    the other predictions are false positives. Per joint, the predictions of all frames are sorted by score, and AP is
    the area below the monotone envelope of precision over recall (VOC); predictions of equal score enter together.

    Source: leonid-pishchulin/poseval (Andriluka et al., "PoseTrack", CVPR 2018).
    """
    joints = frames[0].truth.shape[1]
    scores: list[list[float]] = [[] for _ in range(joints)]
    hits: list[list[bool]] = [[] for _ in range(joints)]
    total = np.zeros(joints)
    for frame in frames:
        total += frame.labelled.sum(axis=0)
        distance = np.linalg.norm(frame.keypoints[:, None] - frame.truth[None], axis=-1)
        match = (distance <= alpha * frame.head_size[None, :, None]) & frame.labelled[None]
        partner = _assign(match, frame.labelled)
        for person in range(len(frame.keypoints)):
            truth = partner.get(person)
            for joint in range(joints):
                if truth is not None and not frame.labelled[truth, joint]:
                    continue  # nobody knows whether it is right
                scores[joint].append(float(frame.scores[person, joint]))
                hits[joint].append(truth is not None and bool(match[person, truth, joint]))
    return np.array([_voc(np.array(scores[j]), np.array(hits[j], dtype=bool), total[j]) for j in range(joints)])


def _assign(match: Flags, labelled: Flags) -> dict[int, int]:
    """Prediction -> truth."""
    people, truths = match.shape[:2]
    if not people or not truths:
        return {}
    share = match.sum(axis=2) / np.maximum(labelled.sum(axis=1), 1)[None]
    best = share.argmax(axis=1)
    kept = np.zeros_like(share)
    kept[np.arange(people), best] = share[np.arange(people), best]
    return {int(kept[:, truth].argmax()): truth for truth in range(truths) if kept[:, truth].max() > 0}


def _voc(scores: Array, hits: Flags, total: float) -> float:
    if total == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(hits[order])
    # Equal scores enter together, so that their order means nothing.
    last = np.append(np.diff(scores[order]) < 0, True)[: len(order)]
    precision = np.concatenate([[0.0], (true / np.arange(1, len(order) + 1))[last], [0.0]])
    recall = np.concatenate([[0.0], (true / total)[last], [1.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


class PoseTrackMeanAveragePrecision(Metric):
    """PoseTrack's mAP: mean over joints of :func:`posetrack_average_precision`; every case is a frame of one person."""

    def __init__(self, alpha: float = 0.5, reduction: Reduction = "mean-heatmap") -> None:
        self.alpha, self.reduction = float(alpha), reduction

    @property
    def card(self) -> MetricCard:
        """Higher is better; one is perfect."""
        version = f"poseval, alpha {self.alpha:g}, several estimates by {self.reduction}; 1"
        return MetricCard("pose/posetrack-map", "higher", "1", (0.0, 1.0), 1.0, 1, version=version)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Mean over joints that are labelled somewhere."""
        self.check(samples, reference)
        return float(
            np.nanmean(posetrack_average_precision(frames_of(judge(samples, reference, self.reduction)), self.alpha))
        )


def frames_of(judged: Judged) -> list[Frame]:
    """Each case as a frame with one person; without those whose head size is unknown.

    Raises:
        AnydiffError: nobody's head size is known.
    """
    labelled = judged.visibility > 0
    known = np.flatnonzero(np.isfinite(judged.head_size))
    if not len(known):
        raise AnydiffError("nobody's head size is known, so PoseTrack's AP is undefined; add head_size or bbox_head.")
    return [
        Frame(judged.truth[[i]], labelled[[i]], judged.head_size[[i]], judged.keypoints[[i]], judged.scores[[i]])
        for i in known
    ]


GROUPS: Mapping[str, tuple[str, ...]] = {
    "head": ("head", "neck", "nose", "head_top", "head_bottom"),
    **{part: (f"left_{part}", f"right_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
"""The groups in which PoseTrack's tables report joints."""


def grouped(values: Array, skeleton: Skeleton) -> dict[str, float]:
    """Means of per-joint ``values [J]`` over :data:`GROUPS`, as PoseTrack's tables; NaN entries are left out."""
    out = {}
    for group, joints in GROUPS.items():
        numbers = [skeleton.index(joint) for joint in joints if joint in skeleton.joints]
        chosen = values[numbers][np.isfinite(values[numbers])]
        if len(chosen):
            out[group] = float(chosen.mean())
    return out
