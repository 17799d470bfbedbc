"""``anydiff train``: a recipe into a run folder."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli.output import tell


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe (see `anydiff recipes`) or a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<recipe>-<time> by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; repeatable.")
    ] = None,
    devices: Annotated[str, typer.Option(help="Number of devices, or auto.")] = "1",
) -> None:
    """Train a recipe. Ctrl-C saves a checkpoint; --resume continues exactly where it stopped.

    Examples:
      anydiff train images/fashion --out runs/fashion
      anydiff train images/fashion --set training.steps=200 --set network.options.channels=32
      anydiff train images/fashion --out runs/fashion --resume
      anydiff train my-recipe.yaml --devices 2
    """
    from rich.console import Console

    from anydiff.errors import AnydiffError, natural_number
    from anydiff.networks import Autoencoder
    from anydiff.pipeline import train
    from anydiff.pipeline.conditions import never_hidden
    from anydiff.recipes import load_recipe

    if resume and out is None:
        raise AnydiffError("--resume needs the run to continue; name its folder with --out.")
    resolved = load_recipe(recipe, change or [])
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = out or Path("runs") / f"{resolved.name.replace('/', '-')}-{stamp}"
    count: int | str = devices if devices == "auto" else natural_number("--devices", _number(devices))
    written = shlex.join(["anydiff", "train", recipe, *(part for each in change or [] for part in ("--set", each))])
    pipeline = train(resolved, folder, resume=resume, devices=count, console=Console(stderr=True), command=written)
    tell(f"trained {resolved.name} into {str(folder)!r} ({pipeline.parameters:,} parameters).")
    if isinstance(pipeline.denoiser.network, Autoencoder):
        tell(f"next: anydiff evaluate {folder}")
        return
    needed = never_hidden(pipeline.recipe, pipeline.denoiser.network, pipeline.domain)
    # A model that was never trained without its conditions is asked with those of held-out data.
    tell(f"next: anydiff sample {folder} {'--cases 4' if needed else '--count 16'}")


def _number(text: str) -> object:
    return int(text) if text.lstrip("-").isdigit() else text
