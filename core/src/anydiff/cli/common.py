"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from anydiff.errors import AnydiffError, natural_number
from anydiff.files import check_suffix

if TYPE_CHECKING:
    from anydiff.pipeline import Pipeline

Source = Annotated[str, typer.Argument(help="A recipe with bundled weights, a run folder, or a .safetensors file.")]
Seed = Annotated[int, typer.Option(help="Seed; sample k of a seed is the same in every set.")]
Nfe = Annotated[int | None, typer.Option(help="Network calls per sample (default: the recipe's).")]
SolverName = Annotated[
    str | None,
    typer.Option(
        help="Solver (see `anydiff solvers`; default: the recipe's, or `by-budget` where it names none, which chooses "
        "by the number of calls and by whether there is guidance). A small network on bounded data (images of clipped "
        "range, say) is better served by `dpm-solver++-2m` or `unipc-2` on the grid karras."
    ),
]
SolverOption = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of the solver; repeatable.")
]
Calibration = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What `anydiff calibrate` found for this model; brings its own solver and grid."),
]
GridName = Annotated[
    str | None,
    typer.Option(
        help="Time grid: time, log-snr, quadratic, power-2.5, karras or learned; on a ladder leading or trailing too."
    ),
]
End = Annotated[str | None, typer.Option(help="How the plan ends: clean, denoise or stop.")]
Guidance = Annotated[
    str | None,
    typer.Option(metavar="SCALE|NAME", help="Classifier-free guidance scale (1 is none), or a registered guidance."),
]
GuidanceOption = Annotated[
    list[str] | None,
    typer.Option("--guidance-option", metavar="NAME=VALUE", help="An option of the guidance; repeatable."),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Factor on every noise draw: 1 the model's own law, 0 one best estimate (default: the recipe's)."
    ),
]
PathOption = Annotated[
    list[str] | None,
    typer.Option(
        "--path-option",
        metavar="NAME=VALUE",
        help="Another route under the same network, route=residual-first say, where its path has some; repeatable.",
    ),
]
Condition = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="What to ask for, label=sneaker say; repeatable.")
]
Cases = Annotated[
    int | None, typer.Option(help="Cases: the first of those --condition names, or else of the held-out data.")
]
Picture = Annotated[Path | None, typer.Option(help="Also draw the samples to this PNG.")]
BatchSize = Annotated[int, typer.Option(help="Rows per network call.")]
Device = Annotated[str, typer.Option(help="Where to run: cpu, cuda, cuda:1, mps.")]


def pairs(texts: Sequence[str] | None, flag: str) -> dict[str, str]:
    """``["a=1", "b=x"]`` as a dictionary of texts; ``flag`` names the option in errors."""
    out = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise AnydiffError(f"{flag} is {text!r}; write NAME=VALUE.")
        out[name] = value
    return out


Number = TypeVar("Number", int, float)


def numbers(text: str | None, flag: str, kind: type[Number]) -> list[Number] | None:
    """``"3,4,5"`` as numbers; None where nothing is given.

    Raises:
        AnydiffError: a part is no number, or a whole number below 1.
    """
    if text is None:
        return None
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        raise AnydiffError(f"{flag} is {text!r}; write numbers with commas, {flag} 3,4,5 say.") from None
    if kind is int and any(each < 1 for each in found):
        raise AnydiffError(f"{flag} is {text!r}, but each must be a whole number of at least 1.")
    return found


def solver_options(texts: Sequence[str] | None) -> dict[str, Any]:
    """What ``--option NAME=VALUE`` gives, values read as YAML.

    Raises:
        AnydiffError: a text without ``=``, or a value that is no YAML.
    """
    from anydiff.data.reading import parse_yaml

    advice = "put text that is no YAML into quotes"
    return {
        name: parse_yaml(value, f"--option {name}={value!r}", advice)
        for name, value in pairs(texts, "--option").items()
    }


def sampling_options(
    solver: str | None, nfe: int | None, grid: str | None, end: str | None, option: Sequence[str] | None
) -> dict[str, Any]:
    """The keyword arguments of ``Pipeline.sample`` that the shared options stand for."""
    options = solver_options(option)
    given = {"solver": solver, "nfe": nfe, "grid": grid, "end": end}
    return {**{name: value for name, value in given.items() if value is not None}, **options}


def guiding(guidance: str | None, option: Sequence[str] | None) -> Any:
    """The argument ``guidance`` of ``Pipeline.sample`` for what ``--guidance`` and ``--guidance-option`` say.

    Raises:
        AnydiffError: options without a guidance that is named, or a scale that is not finite.
        UnknownNameError: no such guidance, or no such option of it.
    """
    from anydiff.data.reading import parse_yaml
    from anydiff.recipes import Part
    from anydiff.recipes.build import build_guidance

    given = pairs(option, "--guidance-option")
    try:
        scale = None if guidance is None else float(guidance)
    except ValueError:
        options = {name: parse_yaml(value, f"--guidance-option {name}") for name, value in given.items()}
        return build_guidance(Part(name=str(guidance), options=options))
    if given:
        raise AnydiffError(
            f"--guidance-option {next(iter(given))} belongs to a guidance that is named; write --guidance NAME, or "
            "--guidance classifier-free with scale=2 for the scale."
        )
    return None if scale is None else build_guidance(scale)


def on_path(pipeline: Pipeline, texts: Sequence[str] | None) -> Pipeline:
    """``pipeline`` on the route that ``--path-option NAME=VALUE`` says, values read as YAML; itself without any."""
    from anydiff.data.reading import parse_yaml
    from anydiff.pipeline.sampling import on_path as on_other_path

    given = pairs(texts, "--path-option")
    options = {name: parse_yaml(value, f"--path-option {name}") for name, value in given.items()}
    return on_other_path(pipeline, options) if options else pipeline


def check_device(name: str) -> str:
    """``name`` if torch can run there.

    Raises:
        AnydiffError: no such device on this machine.
    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise AnydiffError(f"--device {name!r} cannot be used ({reason}); use --device cpu.") from error
    return name


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise an :class:`AnydiffError` if ``path`` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise AnydiffError(f"{str(path)!r} exists; choose another --out or pass --overwrite.")


def check_picture(path: Path | None, overwrite: bool) -> None:
    """Raise an :class:`AnydiffError` if ``path`` does not end in .png, which pictures are, or may not be replaced."""
    if path is not None:
        check_suffix(path, (".png",), "pictures")
        refuse_existing(path, overwrite)


def check_numbers(**given: int | None) -> None:
    """Raise an :class:`AnydiffError` if an option that was given, ``batch_size`` say, is no whole number from 1."""
    for name, number in given.items():
        if number is not None:
            natural_number(f"--{name.replace('_', '-')}", number)


def own_place(name: str, pipeline: Pipeline) -> Path:
    """Where samples are written that no ``--out`` places: ``name`` with the first ending of the domain's files."""
    endings = pipeline.domain.suffixes
    return Path(f"{name}{'' if '' in endings else (*endings, '')[0]}")


def refuse_beside(context: typer.Context, chosen: str, without: Sequence[str]) -> None:
    """Refuse options that have no meaning beside the option ``chosen``; they would be dropped in silence.

    Args:
        context: of the command.
        chosen: ``"--samples"``.
        without: names of parameters, ``"nfe"`` say.

    Raises:
        AnydiffError: one of them was written.
    """
    for name in without:
        if "COMMANDLINE" in str(context.get_parameter_source(name)):
            option = next(each.opts[0] for each in context.command.params if each.name == name)
            raise AnydiffError(f"{option} has no meaning beside {chosen}; leave one of them out.")


def sampling_progress(total: int | None, describe: str) -> Any:
    """A rich progress bar on stderr over ``total`` network calls, or over as many as there will be (None).

    Silent where stderr is not a terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task(describe, total=total)
    return progress


def whole(text: str) -> object:
    """A whole number of a text that looks like one; the text itself otherwise, for whoever refuses it by name."""
    return int(text) if text.lstrip("-").isdigit() else text
