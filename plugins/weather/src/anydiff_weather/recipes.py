"""Named experiments on weather ensembles. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe

METRICS = [
    "weather/crps",
    "weather/crps-fair",
    "weather/rmse",
    "weather/spread-skill",
    "weather/rank-histogram",
    "weather/energy-score",
]


def _seeds(name: str, help: str, dataset: dict[str, Any], steps: int) -> Recipe:
    """SEEDS on the simulator: path g = b^t, D trained in EDM's form, which small networks learn faster than ε."""
    recipe = {
        "name": name,
        "help": help,
        "domain": {"name": "weather", "options": {"climatology": "lorenz96", "seeds": 2}},
        "dataset": {"name": "weather/lorenz96", "options": {"seeds": 2, **dataset}},
        "network": {
            "name": "weather/set-axial-attention",
            "options": {"width": 64, "blocks": 3, "heads": 4, "periodic": [False, True]},
        },
        "path": {"name": "ve-exponential", "options": {"base": 60.0}},
        "parametrization": "edm",
        "sigma_data": 1.0,
        "objective": {
            "name": "denoising",
            "options": {"weighting": "edm", "times": "log-normal", "times_mean": -0.3, "times_std": 1.2},
        },
        "training": {
            "steps": steps,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.998,
            "checkpoint_every": 250,
        },
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 20, "grid": "karras"},
        "metrics": METRICS,
    }
    return Recipe.parse(recipe, f"recipe {name!r}")


def gee() -> Recipe:
    """Generative emulation: labels are the other members of the same (perfect) ensemble."""
    return _seeds(
        "weather/gee",
        "SEEDS-GEE: emulate the ensemble of the Lorenz-96 simulator from 2 seed members",
        {"system": "perfect", "member_labels": 3, "truth_labels": 0},
        6000,
    )


def gpp() -> Recipe:
    """Generative post-processing: seeds of the biased system, labels mostly the truth."""
    return _seeds(
        "weather/gpp",
        "SEEDS-GPP: emulate and correct a biased ensemble of the Lorenz-96 simulator from 2 seed members",
        {"system": "biased", "member_labels": 0, "truth_labels": 1},
        2000,
    )


def rain() -> Recipe:
    """Post-processing of rain at Innsbruck: 11 exchangeable members in, the law of the observation out."""
    base = _seeds(
        "weather/rain", "SEEDS-GPP of daily rain at Innsbruck from 11 GEFS members (data not bundled)", {}, 700
    )
    changed = {
        **base.model_dump(mode="json"),
        "domain": "weather/rain",
        "dataset": "weather/rain-innsbruck",
        "network": {
            "name": "weather/set-axial-attention",
            "options": {"width": 48, "blocks": 2, "heads": 4, "periodic": [False, False]},
        },
    }
    changed["training"] = {**changed["training"], "batch_size": 256, "learning_rate": 1e-3}
    return Recipe.parse(changed, "recipe 'weather/rain'")
