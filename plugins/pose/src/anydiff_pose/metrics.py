"""How well key points are found: PCK, PCKh and COCO's OKS average precision; PoseTrack's is in ``posetrack``.

All judge members of cases: sample i is an estimate of case i % n of the reference, and several estimates of a case are
aggregated before anything is decoded. The truth (exact key points, visibility, head size) comes from the reference's
``truth`` where a data set gives it, else from the reference's own heatmaps.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet, members_per_case
from anydiff_pose.domain import Poses
from anydiff_pose.heatmaps import Reduction, aggregate, decode_heatmaps
from anydiff_pose.skeletons import Skeleton

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

HEAD_JOINTS = ("head", "head_top"), ("neck", "head_bottom")


@dataclass(frozen=True)
class Judged:
    """Estimates and truth of n cases, in pixels.

    Attributes:
        keypoints: estimated, ``[n, J, 2]``.
        scores: of the joints, ``[n, J]``.
        truth: true, ``[n, J, 2]``.
        visibility: 2 visible, 1 occluded, 0 not labelled, ``[n, J]``.
        known_head_size: ``[n]``, the reference of PCKh, NaN where a person's is unknown; None where nobody states any
            and the skeleton has no head.
        area: ``[n]``, the reference of OKS.
        side: ``[n]``, the longer side of the person's box, the reference of PCK.
        skeleton: names the joints.
    """

    keypoints: Array
    scores: Array
    truth: Array
    visibility: NDArray[np.int64]
    known_head_size: Array | None
    area: Array
    side: Array
    skeleton: Skeleton

    @property
    def head_size(self) -> Array:
        """``[n]``, the reference of PCKh.

        Raises:
            AnydiffError: nobody states it, and the skeleton has no head and neck to measure.
        """
        if self.known_head_size is None:
            raise AnydiffError(
                f"the skeleton {self.skeleton.name!r} has no head and neck, and the data state no head size; use "
                "pose/pck and pose/oks-map, or add head_size to the annotations."
            )
        return self.known_head_size

    @property
    def errors(self) -> Array:
        """Distances ``[n, J]`` in pixels."""
        return np.asarray(np.linalg.norm(self.keypoints - self.truth, axis=-1))


def judge(samples: SampleSet, reference: SampleSet, reduction: Reduction = "mean-heatmap") -> Judged:
    """Estimates of each case of ``reference``, aggregated and decoded, with the truth beside them.

    Raises:
        AnydiffError: the domain is not that of poses, or the cases have unequal numbers of estimates.
    """
    domain = reference.domain
    if not isinstance(domain, Poses):
        raise AnydiffError(f"the domain is {domain.name!r}, but key points are judged in the domain 'pose'.")
    # Fewer samples than cases are the first of them, as everywhere in the core.
    cases = min(len(samples), len(reference))
    heat = aggregate(domain.heatmaps(members_per_case(samples.states, cases).double()), reduction, domain.stride)
    keypoints, scores = decode_heatmaps(heat, domain.stride, domain.decoding)
    known = {name: value[:cases].numpy() for name, value in reference.condition.truth.items()}
    drawn, drawn_scores = decode_heatmaps(domain.heatmaps(reference.states[:cases].double()), domain.stride)
    truth = known.get("keypoints", drawn)
    visibility = known.get("visibility", np.where(drawn_scores >= domain.threshold, 2, 0))
    # A joint that is not labelled lies anywhere, at (0, 0) in COCO's files, and lends no length.
    labelled = visibility > 0
    seen = labelled[..., None]
    size = np.where(seen, truth, -np.inf).max(axis=1) - np.where(seen, truth, np.inf).min(axis=1)
    size = np.maximum(size, 0)
    return Judged(
        keypoints,
        scores,
        truth,
        visibility,
        known.get("head_size", head_size_of(truth, labelled, domain.skeleton)),
        known.get("area", size.prod(axis=1)),
        known.get("side", size.max(axis=1)),
        domain.skeleton,
    )


def head_size_of(truth: Array, labelled: Flags, skeleton: Skeleton) -> Array | None:
    """Where nobody states it: the distance from head to neck of key points ``[..., J, 2]``.

    NaN where one of them is not ``labelled [..., J]``; None where the skeleton has none.
    """
    ends = [next((joint for joint in names if joint in skeleton.joints), None) for names in HEAD_JOINTS]
    if None in ends:
        return None
    top, bottom = (truth[..., skeleton.index(joint), :] for joint in ends if joint)
    known = np.all([labelled[..., skeleton.index(joint)] for joint in ends if joint], axis=0)
    return np.asarray(np.where(known, np.linalg.norm(top - bottom, axis=-1), np.nan))


# Share of correct key points ------------------------------------------------------------------------------------------


def correct_share(errors: Array, reference: Array, alpha: float, counted: Flags) -> float:
    """Share of ``counted [n, J]`` joints with error <= alpha * reference: errors ``[n, J]``, reference ``[n]``.

    Raises:
        AnydiffError: no joint is counted.
    """
    if not counted.any():
        raise AnydiffError(
            "no joint of these examples is counted (labelled, of a person whose reference length is known), so there "
            "is no share of correct ones; give more."
        )
    correct = errors <= alpha * reference[:, None]
    return float(correct[counted].mean())


def per_joint(judged: Judged, alpha: float = 0.5) -> dict[str, dict[str, float]]:
    """PCKh of every joint: the labelled, and of these the visible and the occluded (NaN where there are none)."""
    correct = judged.errors <= alpha * judged.head_size[:, None]
    rows = {}
    for number, joint in enumerate(judged.skeleton.joints):
        flags = judged.visibility[:, number]
        known = np.isfinite(judged.head_size)
        groups = {"all": (flags > 0) & known, "visible": (flags == 2) & known, "occluded": (flags == 1) & known}
        rows[joint] = {
            name: float(correct[group, number].mean()) if group.any() else float("nan")
            for name, group in groups.items()
        }
    return rows


class _Share(Metric):
    """A share of correct key points."""

    name: str
    version: str

    def __init__(self, alpha: float, reduction: Reduction = "mean-heatmap") -> None:
        if not alpha > 0:
            raise AnydiffError(f"alpha is {alpha}, but must be positive: a share of the reference length.")
        self.alpha, self.reduction = float(alpha), reduction

    @property
    def card(self) -> MetricCard:
        """Higher is better; one is perfect."""
        version = f"{self.version}, alpha {self.alpha:g}, several estimates by {self.reduction}; 1"
        return MetricCard(self.name, "higher", "1", (0.0, 1.0), 1.0, 1, version=version)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The share over all cases and counted joints."""
        self.check(samples, reference)
        judged = judge(samples, reference, self.reduction)
        length = self.length(judged)
        # A person whose reference length nobody knows is neither right nor wrong.
        return correct_share(judged.errors, length, self.alpha, self.counted(judged) & np.isfinite(length)[:, None])

    def length(self, judged: Judged) -> Array:
        """The reference length ``[n]``."""
        return judged.head_size

    def counted(self, judged: Judged) -> Flags:
        """Which joints count ``[n, J]``."""
        return judged.visibility > 0


class PCKh(_Share):
    """PCKh@alpha: error <= alpha head sizes, head size = 0.6 times the diagonal of the head box (Andriluka 2014)."""

    name, version = "pose/pckh", "labelled joints, head size"

    def __init__(self, alpha: float = 0.5, reduction: Reduction = "mean-heatmap") -> None:
        super().__init__(alpha, reduction)


class PCKhOccluded(PCKh):
    """PCKh over the joints that are labelled but hidden at the keyframe."""

    name, version = "pose/pckh-occluded", "occluded joints, head size"

    def counted(self, judged: Judged) -> Flags:
        """The occluded joints."""
        return np.asarray(judged.visibility == 1)


class PCK(_Share):
    """PCK@alpha: error <= alpha times the longer side of the person's box (Yang and Ramanan 2013)."""

    name, version = "pose/pck", "labelled joints, longer side of the box"

    def __init__(self, alpha: float = 0.1, reduction: Reduction = "mean-heatmap") -> None:
        super().__init__(alpha, reduction)

    def length(self, judged: Judged) -> Array:
        """The longer side of the person's box, or of the box of the labelled joints."""
        return judged.side


# COCO ---------------------------------------------------------------------------------------------------------------


def oks_average_precision(judged: Judged) -> float:
    """COCO's AP over OKS thresholds .50:.05:.95 in [0, 1], by pycocotools, one person per image.

    Cases without a labelled joint are left out, as COCO does.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    used = [case for case in range(len(judged.truth)) if (judged.visibility[case] > 0).any()]
    # COCO breaks ties of scores by the order of images, so images get an order that no shuffling of rows can change.
    used.sort(key=lambda case: (judged.truth[case].tobytes(), judged.keypoints[case].tobytes()))
    if not used:
        raise AnydiffError("no case has a labelled joint, so OKS is undefined; give others.")
    truth, found = COCO(), COCO()
    category = {"id": 1, "name": "person", "keypoints": list(judged.skeleton.joints)}
    shared: dict[str, Any] = {"images": [{"id": image} for image in range(len(used))], "categories": [category]}
    truth.dataset = {**shared, "annotations": [_coco_row(judged, *each, truth=True) for each in enumerate(used)]}
    found.dataset = {**shared, "annotations": [_coco_row(judged, *each, truth=False) for each in enumerate(used)]}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(judged.skeleton.sigmas)
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return float(precision[precision > -1].mean())


def _coco_row(judged: Judged, image: int, case: int, truth: bool) -> dict[str, Any]:
    points = judged.truth[case] if truth else judged.keypoints[case]
    flags = judged.visibility[case] if truth else np.full(len(points), 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return {
        "id": image + 1,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": float(judged.area[case]),
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "keypoints": np.column_stack([points, flags]).flatten().tolist(),
        "num_keypoints": int((flags > 0).sum()),
        "score": float(judged.scores[case].mean()),
    }


class OKSMeanAveragePrecision(Metric):
    """COCO's key point AP (mean over OKS thresholds .50:.05:.95), by pycocotools."""

    def __init__(self, reduction: Reduction = "mean-heatmap") -> None:
        self.reduction = reduction

    @property
    def card(self) -> MetricCard:
        """Higher is better; one is perfect."""
        version = f"pycocotools, thresholds .50:.05:.95, several estimates by {self.reduction}; 1"
        return MetricCard("pose/oks-map", "higher", "1", (0.0, 1.0), 1.0, 1, version=version)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """AP over all cases."""
        self.check(samples, reference)
        return oks_average_precision(judge(samples, reference, self.reduction))
