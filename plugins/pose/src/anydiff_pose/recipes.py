"""Named experiments on poses. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe


def _recipe(name: str, help: str, network: dict[str, Any], steps: int, nfe: int) -> Recipe:
    """What DiffPose and its baseline share: data, heatmaps, network size, loss and optimiser."""
    recipe = {
        "name": name,
        "help": help,
        "domain": {"name": "pose", "options": {}},
        "dataset": "pose/humanoid-video",
        "network": {"name": "pose/video-heatmaps", "options": network},
        "path": "vp-cosine",
        "parametrization": "data",
        # Heatmaps are background almost everywhere, -1, so their root mean square is close to one.
        "sigma_data": 1.0,
        "objective": {"name": "denoising", "options": {"weighting": "data", "times": "uniform"}},
        "training": {
            "steps": steps,
            "batch_size": 24,
            "learning_rate": 2e-3,
            "warmup_steps": 60,
            "schedule": "cosine",
            "weight_decay": 1e-4,
            "ema_decay": 0.99,
            "checkpoint_every": 100,
        },
        "sampling": {"solver": "ddim", "nfe": nfe, "guidance": [{"name": "clamp"}]},
        "metrics": [
            "pose/pckh", "pose/pckh-occluded", "pose/pck", "pose/oks-map", "pose/posetrack-map",
        ],
    }  # fmt: skip
    return Recipe.parse(recipe, f"recipe {name!r}")


def diffpose() -> Recipe:
    """DiffPose on three frames of rendered humanoid video."""
    recipe = _recipe(
        "pose/diffpose", "DiffPose: key points from three frames, 64x48, rendered humanoid video", {}, 3000, 4
    )
    # One estimate that began at a draw carries that draw's noise; the prior's mean leads to the best single one.
    return recipe.with_changes(["sampling.temperature=0"])


def regression() -> Recipe:
    """The baseline: heatmap regression from the keyframe alone, with the same network where it applies."""
    return _recipe(
        "pose/regression",
        "heatmap regression from the keyframe alone, the baseline of pose/diffpose",
        {"neighbours": False, "reads_state": False},
        3000,
        1,
    )


def video() -> Recipe:
    """DiffPose judged on 240 clips, with 240 for the mean pose: what the task pose/video reads, in seconds."""
    return diffpose().with_changes(["name=pose/video", "dataset.options={size: 240}"])
