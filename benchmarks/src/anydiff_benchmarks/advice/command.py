"""``python -m anydiff_benchmarks.advice``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from anydiff.cli import tell
from anydiff.errors import AnydiffError
from anydiff.files import write_atomic

RECIPES = (
    "weather/gee", "weather/gpp", "timeseries/traffic", "timeseries/pm25", "timeseries/traffic-conditional",
    "molecules/qm9", "graphs/community-small", "trajectories/maze", "images/fashion", "volumes/next-frame",
)  # fmt: skip
FAULTY = "images/fashion"
"""Judged without pairs, so that the network's share is what the network loses and nothing else."""


def command(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where advice.jsonl and advice.md go.")] = Path(
        "benchmarks/results"
    ),
    recipes: Annotated[str, typer.Option("--recipes", help="Recipes, by commas; ten by default.")] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of the noise of each recipe.")] = 3,
    count: Annotated[int, typer.Option("--count", min=16, help="Samples that are judged.")] = 144,
    faults: Annotated[
        str, typer.Option("--faults", help="The recipe of the planted faults; none for an empty name.")
    ] = FAULTY,
) -> None:
    """Measure what `anydiff advise` predicts: the solver's error, the chosen setting, and three planted faults.

    Rows that are there already are kept, so a stopped run goes on. Ten recipes take about two hours of one core.

    Examples:
      python -m anydiff_benchmarks.advice --recipes weather/gee,molecules/qm9 --seeds 1 --out advice
    """
    import torch

    from anydiff_benchmarks.advice.report import markdown
    from anydiff_benchmarks.advice.study import planted, study

    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    path = out / "advice.jsonl"
    rows = read(path)
    names = recipes.split(",") if recipes else list(RECIPES)
    for seed in range(seeds):
        for name in names:
            if any((row["recipe"], row["seed"]) == (name, seed) and "fault" not in row for row in rows):
                continue
            try:
                row = study(name, seed, count)
            except AnydiffError as error:
                row = {"recipe": name, "seed": seed, "refused": str(error)}
            rows = _kept(path, [*rows, row])
            tell(f"{name}, seed {seed}: {row.get('refused') or format(row['seconds'], '.0f') + ' s'}")
    if faults and not any("fault" in row for row in rows):
        with tempfile.TemporaryDirectory() as folder:
            rows = _kept(path, [*rows, *planted(faults, 0, count, lambda name: _briefly_trained(name, Path(folder)))])
    write_atomic(out / "advice.md", markdown(rows))
    typer.echo(f"wrote {out / 'advice.md'}")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of an earlier run; none where there was none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def _kept(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    write_atomic(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    return [dict(row) for row in rows]


def _briefly_trained(name: str, folder: Path) -> Any:
    """The recipe's model after a tenth of its steps."""
    from anydiff.pipeline import train
    from anydiff.recipes import load_recipe

    recipe = load_recipe(name)
    steps = max(1, recipe.training.steps // 10)
    settings = recipe.training.model_copy(update={"steps": steps})
    return train(recipe.model_copy(update={"training": settings}), folder / "run")
