"""The pose domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anydiff.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from anydiff_pose.diffpose import estimate_clips, estimate_video
    from anydiff_pose.poses import Pose

__all__ = ["Pose", "estimate_clips", "estimate_video"]

ANYDIFF_API = ">=2.0,<3"

ANYDIFF_CHECK_OPTIONS = {
    "pose/humanoid-video": {"size": 40},
    "pose/rollout-video": {"size": 40, "episodes": 2},
    "pose/diffpose": {"dataset.options.size": 40},
    "pose/regression": {"dataset.options.size": 40},
    "pose/video": {"dataset.options.size": 40},
}

_PLACES = {"Pose": "poses", "estimate_clips": "diffpose", "estimate_video": "diffpose"}


def __getattr__(name: str) -> Any:
    """Import what users call on first use, so that listing plugins stays fast."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


@hookimpl
def register_domains(register: Register) -> None:
    """Poses in crops of one size."""
    register("pose", "key points of people as heatmaps, from short clips", "anydiff_pose.domain:Poses")


@hookimpl
def register_datasets(register: Register) -> None:
    """Humanoid motion rendered to video."""
    register(
        "pose/humanoid-video",
        "walk, run and dance of a humanoid rendered to 64x48 video with occlusion, blur and company; bundled",
        "anydiff_pose.data:HumanoidVideo",
        ledger="anydiff_pose.ledger:HUMANOID",
    )
    register(
        "pose/deepmimic-video",
        "DeepMimic's 15 clips rendered likewise; by container",
        "anydiff_pose.data:DeepMimicVideo",
        ledger="anydiff_pose.ledger:DEEPMIMIC",
    )
    register(
        "pose/rollout-video",
        "falls and stumbles of Gymnasium's Humanoid rendered likewise, as many as wanted; needs mujoco",
        "anydiff_pose.rollouts:RolloutVideo",
    )
    register("pose/annotated", "your own video with a COCO or PoseTrack file", "anydiff_pose.annotated:AnnotatedVideo")


@hookimpl
def register_tasks(register: Register) -> None:
    """Key points in rendered video."""
    register("pose/video@1", "key points of a person in rendered video", "anydiff_pose.tasks:video")


@hookimpl
def register_networks(register: Register) -> None:
    """DiffPose."""
    register(
        "pose/video-heatmaps",
        "DiffPose's video encoder, once per clip, and heatmap decoder, once per step",
        "anydiff_pose.networks:VideoHeatmaps",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """PCK, PCKh, COCO's and PoseTrack's average precision; all score a sample against its own case."""
    metrics = "anydiff_pose.metrics"
    register("pose/pckh", "PCKh@.5: error within half a head size", f"{metrics}:PCKh", paired=True)
    register("pose/pckh-occluded", "PCKh@.5 over hidden joints", f"{metrics}:PCKhOccluded", paired=True)
    register("pose/pck", "PCK@.1: error within a tenth of the person's size", f"{metrics}:PCK", paired=True)
    register("pose/oks-map", "COCO's key point AP, .50:.05:.95", f"{metrics}:OKSMeanAveragePrecision", paired=True)
    register(
        "pose/posetrack-map", "PoseTrack's mAP", "anydiff_pose.posetrack:PoseTrackMeanAveragePrecision", paired=True
    )


@hookimpl
def register_recipes(register: Register) -> None:
    """DiffPose and its baseline."""
    register(
        "pose/diffpose",
        "DiffPose on rendered humanoid video",
        "anydiff_pose.recipes:diffpose",
        weights="anydiff_pose:weights/diffpose.safetensors",
    )
    register(
        "pose/video",
        "pose/diffpose with the data of the task pose/video",
        "anydiff_pose.recipes:video",
        weights="anydiff_pose:weights/diffpose.safetensors",
    )
    register(
        "pose/regression",
        "single-frame heatmap regression, its baseline",
        "anydiff_pose.recipes:regression",
        weights="anydiff_pose:weights/regression.safetensors",
    )
