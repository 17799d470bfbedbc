"""``anydiff optimise``: samples of a model with a higher reward, which is a function of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.cases import DEFAULT_COUNT, cases_named, counted, members_of_each, write_samples
from anydiff.cli.options import Drawing, Run
from anydiff.cli.output import tell

if TYPE_CHECKING:
    from anydiff.pipeline import Optimised, Pipeline, Round


def command(
    context: typer.Context,
    source: common.Source,
    *,
    reward: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A function of torch operations from values [B, ...] to one number per row, more is better. MODULE is "
            "a file, rewards.py, or a module that Python finds.",
        ),
    ],
    rounds: Annotated[int, typer.Option(help="Rounds after the samples as they come.")] = 5,
    gain: Annotated[
        float | None, typer.Option(help="How much more reward each round asks for, in the reward's units.")
    ] = None,
    target: Annotated[float | None, typer.Option(help="Or the reward to reach.")] = None,
    noise_std: Annotated[
        float | None,
        typer.Option(help="How loosely it is asked for, in the reward's units (default: half of what is asked for)."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="look-ahead (through the network) or naive (past it, which leaves what it knows).")
    ] = "look-ahead",
    variance: Annotated[
        str, typer.Option(help="Of look-ahead: exact, or published (the same for data of unit covariance).")
    ] = "exact",
    count: Annotated[int | None, typer.Option(help="How many samples, all cases together (default 16).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder, by its ending (default: optimised, with the domain's own ending)."),
    ] = None,
    picture: common.Picture = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Also write the rewards of every round and sample.")
    ] = None,
    drawing: Drawing,
    condition: common.Condition = None,
    members: Annotated[int | None, typer.Option(help="This many samples for each case; instead of --count.")] = None,
    cases: common.Cases = None,
    run: Run,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out and --log.")] = False,
) -> None:
    """Draw samples that the model finds plausible and that have a higher reward, round by round.

    Each round asks every sample for --gain more than it had, or for --target, along the reward's gradient. The reward
    sees values in the field's own units where the domain has some, else states as the domain encodes them.

    Examples:
      anydiff optimise weather/gee --reward examples/weather_highest_mean.py:regional_mean --gain 1 --cases 1
      anydiff optimise images/fashion --reward rewards.py:brightness --gain 10 --condition label=bag --out bright
      anydiff optimise runs/mine --reward rewards.py:strength --target 3 --rounds 3 --log rewards.json
    """
    from anydiff.errors import natural_number
    from anydiff.files import check_suffix
    from anydiff.pipeline import Ascent, load

    natural_number("--seed", run.seed, minimum=0)
    common.check_numbers(count=count, members=members, cases=cases, batch_size=run.batch_size)
    if members is not None:
        common.refuse_beside(context, "--members", ["count"])
    ascent = Ascent(rounds, gain, target, noise_std, by, variance)
    function = load_function(reward, "--reward")
    if log is not None:
        check_suffix(log, (".json",), "rewards")
        common.refuse_existing(log, overwrite)
    common.check_picture(picture, overwrite)
    pipeline = load(source)
    out = out or common.own_place("optimised", pipeline)
    check_suffix(out, pipeline.domain.suffixes, "samples of this domain")
    common.refuse_existing(out, overwrite)
    given = common.pairs(condition, "--condition")
    options = drawing.given(run)
    each = members_of_each(pipeline, given, cases, count) if members is None else members
    if each is None:
        total, labels = count or DEFAULT_COUNT, None
        options["condition"] = given
        told = f"{total} samples"
    else:
        options["condition"], options["cases"], labels = cases_named(pipeline, given, cases)
        total = each * options["cases"]
        told = counted(each, options["cases"])
    found = _run(pipeline, function, total, ascent, options)
    write_samples(pipeline, found.samples, out, picture, labels)
    if log is not None:
        _write_log(found, reward, ascent, log)
    first, last = found.rewards[0].mean(), found.rewards[-1].mean()
    tell(f"wrote {told} to {str(out)!r} (mean reward from {first:.4g} to {last:.4g}, seed {run.seed}).")


def _run(
    pipeline: Pipeline, function: Callable[..., Any], count: int, ascent: Any, options: dict[str, Any]
) -> Optimised:
    """The optimisation, with a bar of network calls and a line per round."""
    own = ("seed", "guidance", "device", "batch_size", "condition", "cases")
    asked = {name: value for name, value in options.items() if name not in own or name == "guidance"}
    sampler = pipeline.sampler(**asked)
    rest = {name: value for name, value in options.items() if name in own}
    calls = sampler.nfe * -(-count // rest["batch_size"]) * (ascent.rounds + 1) or None
    with common.sampling_progress(calls, f"optimising {count}") as progress:
        step = progress.task_ids[0]

        def report(done: Round) -> None:
            rewards = done.rewards
            progress.update(step, description=f"round {done.number} of {done.of}")
            tell(
                f"round {done.number} of {done.of}: mean reward {rewards.mean():.4g}, from {rewards.min():.4g} to "
                f"{rewards.max():.4g}."
            )

        asked = {**vars(ascent), "report": report, "callbacks": [lambda _: progress.advance(step)]}
        return pipeline.optimise(function, count, solver=sampler, **asked, **rest)


def _write_log(found: Optimised, reward: str, ascent: Any, path: Path) -> None:
    from anydiff.files import write_atomic

    rounds = [
        {"round": number, "mean": float(rewards.mean()), "rewards": rewards.tolist()}
        for number, rewards in enumerate(found.rewards)
    ]
    write_atomic(path, json.dumps({"reward": reward, **vars(ascent), "rounds": rounds}, indent=1) + "\n")


def load_function(text: str, flag: str) -> Callable[..., Any]:
    """The function that ``MODULE:FUNCTION`` names; MODULE is a file ending in .py, or importable from here.

    Raises:
        AnydiffError: the text is not of this form, the module cannot be imported, or has no such function.
    """
    from anydiff.errors import AnydiffError, UnknownNameError

    module_name, colon, name = text.rpartition(":")
    if not colon or not module_name or not name:
        raise AnydiffError(f"{flag} is {text!r}; write MODULE:FUNCTION, rewards.py:brightness say.")
    try:
        module = _file(Path(module_name)) if module_name.endswith(".py") else _named(module_name)
    except (KeyboardInterrupt, MemoryError, AnydiffError):
        raise
    except BaseException as error:  # somebody else's module may raise anything at import, SystemExit included
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise AnydiffError(f"{flag} {text!r} cannot be loaded ({reason}); repair or rename {module_name!r}.") from error
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UnknownNameError(f"function of {module_name!r}", name, functions)
    found = getattr(module, name)
    if not callable(found):
        raise AnydiffError(f"{flag} {text!r} is a {type(found).__name__}, but must be a function.")
    function: Callable[..., Any] = found
    return function


def _file(path: Path) -> Any:
    """The module in a file."""
    from anydiff.errors import AnydiffError

    if not path.is_file():
        raise AnydiffError(f"there is no file {str(path)!r}; name a file of Python, or a module without .py.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _named(name: str) -> Any:
    """A module by name, the folder that the command is called in among the places where it is sought."""
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove("")
