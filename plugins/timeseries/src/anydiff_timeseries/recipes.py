"""Named experiments: TSDiff on hourly traffic and PM2.5, and its conditional twin."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe

_METRICS = [f"timeseries/{name}" for name in ("mean-wql", "crps", "mase", "coverage-error")]


def _recipe(name: str, help: str, dataset: str, unit: str, reads: list[str], **changes: Any) -> Recipe:
    options: dict[str, Any] = {"context": 168, "prediction": 24, "season": 24}
    recipe: dict[str, Any] = {
        "name": name,
        "help": help,
        "domain": {"name": "timeseries", "options": {**options, "freq": "h", "unit": unit}},
        "dataset": {"name": dataset, "options": {**options, "loss": "prediction" if reads else "all"}},
        "network": {
            "name": "timeseries/residual",
            "options": {"width": 64, "blocks": 6, "cycle": 5, "patch_size": 6, "reads": reads},
        },
        "path": "vp-cosine",
        "parametrization": "edm",
        # The root mean square of the windows in units of their level, the mean included.
        "sigma_data": 1.2,
        "objective": {
            "name": "denoising",
            "options": {"weighting": "edm", "times": "log-normal", "times_mean": -0.8, "times_std": 1.3},
        },
        "training": {
            "steps": 3000,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.998,
            "checkpoint_every": 250,
        },
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 20, "grid": "karras"},
        "metrics": [*_METRICS],
        **changes,
    }
    if not reads:
        recipe["sampling"]["guidance"] = [{"name": "timeseries/posterior", "options": {"noise": 0.1}}]
        recipe["metrics"] += ["timeseries/lps", "timeseries/autocorrelation"]
    return Recipe.parse(recipe, f"recipe {name!r}")


def traffic() -> Recipe:
    """TSDiff: one unconditional model of weeks of traffic; forecasts guided by what was observed."""
    return _recipe(
        "timeseries/traffic",
        "TSDiff on hourly traffic volume: a week of context, a day ahead",
        "timeseries/traffic",
        "vehicles per hour",
        [],
    )


def traffic_conditional() -> Recipe:
    """TSDiff-Cond: the same network, told the context, trained on the prediction alone."""
    return _recipe(
        "timeseries/traffic-conditional",
        "TSDiff-Cond on hourly traffic volume: the network is told the context",
        "timeseries/traffic",
        "vehicles per hour",
        ["observed"],
    )


def pm25() -> Recipe:
    """TSDiff on Beijing PM2.5; test contexts have the data's own gaps."""
    return _recipe(
        "timeseries/pm25",
        "TSDiff on hourly PM2.5 in Beijing, with its real gaps",
        "timeseries/pm25",
        "ug/m3",
        [],
        sigma_data=1.3,
    )
