"""``anydiff train``: a recipe into a run folder."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import tell

if TYPE_CHECKING:
    from anydiff.recipes import Recipe, Start


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe (see `anydiff recipes`) or a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; a new one, runs/<recipe>-<time>, by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; repeatable.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Begin with the weights of this recipe, run or file."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Of --from take the tensors that match; the others begin at random.")
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Of --from do not train these parameters ('down.*'); repeatable."),
    ] = None,
    devices: Annotated[str, typer.Option(help="Number of devices, or auto.")] = "1",
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="TRACKER", help="Also log to tensorboard, mlflow or wandb (offline); repeatable."),
    ] = None,
) -> None:
    """Train a recipe. Ctrl-C saves a checkpoint; --resume continues exactly where it stopped.

    Examples:
      anydiff train images/fashion --out runs/fashion
      anydiff train images/fashion --set training.steps=200 --set network.options.channels=32
      anydiff train images/fashion --out runs/fashion --resume
      anydiff train images/fashion --from images/fashion --set training.steps=200 --out runs/finer
      anydiff train images/fashion --out runs/fashion --log tensorboard
      anydiff train my-recipe.yaml --devices 2 --out runs/mine
    """
    from rich.console import Console

    from anydiff.errors import AnydiffError, natural_number
    from anydiff.networks import Autoencoder
    from anydiff.pipeline import train
    from anydiff.pipeline.conditions import never_hidden
    from anydiff.pipeline.start import start_words
    from anydiff.pipeline.trackers import tracker
    from anydiff.recipes import load_recipe

    if resume and out is None:
        raise AnydiffError("--resume needs the run to continue; name its folder with --out.")
    if out is None and (devices != "1" or "TORCHELASTIC_RUN_ID" in os.environ):
        raise AnydiffError("several processes that train one model must agree on its folder; name it with --out.")
    resolved = load_recipe(recipe, change or [])
    base = _base(resolved, start, partial, freeze or [])
    count: int | str = devices if devices == "auto" else natural_number("--devices", common.whole(devices))
    changes = [part for each in change or [] for part in ("--set", each)]
    written = shlex.join(["anydiff", "train", recipe, *changes, *start_words(base)])
    folder = _new_folder(resolved.name) if out is None else out
    try:
        console = Console(stderr=True)
        with contextlib.ExitStack() as open_trackers:
            listeners = [open_trackers.enter_context(tracker(name, resolved)) for name in log or []]
            pipeline = train(
                resolved, folder, start=base, resume=resume, devices=count, console=console, command=written,
                listeners=listeners,
            )  # fmt: skip
    except BaseException:
        if out is None:
            with contextlib.suppress(OSError):  # it holds a run, or is gone
                folder.rmdir()
        raise
    tell(f"trained {resolved.name} into {str(folder)!r} ({pipeline.parameters:,} parameters).")
    if isinstance(pipeline.denoiser.network, Autoencoder):
        tell(f"next: anydiff evaluate {folder}")
        return
    needed = never_hidden(pipeline.recipe, pipeline.denoiser.network, pipeline.domain)
    # A model that was never trained without its conditions is asked with those of held-out data.
    tell(f"next: anydiff sample {folder} {'--cases 4' if needed else '--count 16'}")


def _base(recipe: Recipe, source: str | None, partial: bool, freeze: list[str]) -> Start | None:
    """The base that the options say; None where they say nothing, so that the recipe's own counts.

    Raises:
        AnydiffError: options of a base where there is none.
    """
    from anydiff.errors import AnydiffError
    from anydiff.recipes import Start

    if source is not None:
        return Start(source=source, partial=partial, freeze=tuple(freeze))
    for name, given in (("--partial", partial), ("--freeze", bool(freeze))):
        if given and recipe.start is None:
            raise AnydiffError(f"{name} says how a training begins from a model; name the model with --from.")
    if not (partial or freeze) or recipe.start is None:
        return None
    update = {"partial": partial or recipe.start.partial, "freeze": tuple(freeze) or recipe.start.freeze}
    return recipe.start.model_copy(update=update)


def _new_folder(recipe: str) -> Path:
    """A folder made for this run alone: ``runs/<recipe>-<time>``, with -2, -3, ... where runs begin in one second.

    Raises:
        AnydiffError: it cannot be made.
    """
    from anydiff.errors import AnydiffError

    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    first = Path("runs") / f"{recipe.replace('/', '-')}-{stamp}"
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # of another run; to make a folder is the one step in which a name can be claimed
            if not first.parent.is_dir():
                raise AnydiffError(f"{str(first.parent)!r} is no folder; name the run's folder with --out.") from None
            continue
        except OSError as error:
            raise AnydiffError(
                f"cannot make {str(folder)!r}: {error.strerror or error}; name the run's folder with --out."
            ) from error
        return folder
    raise AssertionError("numbers do not end")
