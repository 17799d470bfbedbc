"""``anydiff sample``: samples as the field's own files, with a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.cases import (
    DEFAULT_COUNT,
    cases_named,
    counted,
    members_of_each,
    order_of_cases,
    write_samples,
)
from anydiff.cli.options import OwnDrawing, Run
from anydiff.cli.output import tell

if TYPE_CHECKING:
    from anydiff.metrics import SampleSet
    from anydiff.pipeline import Pipeline


def command(
    context: typer.Context,
    source: common.Source,
    *,
    count: Annotated[
        int | None,
        typer.Option(help="How many samples, all cases together (default 16, or one for each of --cases)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder, by its ending (default: samples, with the domain's own ending)."),
    ] = None,
    picture: common.Picture = None,
    drawing: OwnDrawing,
    condition: common.Condition = None,
    known: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What must stay as it is: a scaffold, C1CO1 say (SMILES), or files."),
    ] = None,
    read_out: Annotated[
        str | None,
        typer.Option(help="Of a model of several parts: follow its noise prediction (noise), or its heads (heads)."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Where a bridge begins: a file or folder of the domain, one sample for each.")
    ] = None,
    reverse: Annotated[
        bool, typer.Option("--reverse", help="Travel a bridge from its data, which --start holds, to its start.")
    ] = False,
    members: Annotated[
        int | None, typer.Option(help="Draw an ensemble: this many samples for each case; instead of --count.")
    ] = None,
    cases: common.Cases = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the .zarr at --out, if it was begun.")] = False,
    run: Run,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
) -> None:
    """Draw samples from bundled weights, a run or a weights file.

    Examples:
      anydiff sample images/fashion --count 16 --out samples --picture samples.png
      anydiff sample images/fashion --condition label=sneaker --guidance 2
      anydiff sample images/fashion --guidance dynamic-threshold --guidance-option quantile=0.99
      anydiff sample molecules/zinc --known c1ccncc1 --out completed.smi
      anydiff sample runs/fashion --solver dpm-solver++-2m --nfe 10 --seed 7
      anydiff sample images/fashion --solver ddim --option eta=1.0 --nfe 50
      anydiff sample images/fashion --cases 8 --out like-the-test-data
      anydiff sample images/fashion --members 1000 --cases 20 --out ensemble.zarr --resume
    """
    from anydiff.errors import natural_number
    from anydiff.files import check_suffix
    from anydiff.pipeline import load

    natural_number("--seed", run.seed, minimum=0)
    common.check_numbers(count=count, members=members, cases=cases, batch_size=run.batch_size)
    if members is not None:
        common.refuse_beside(context, "--members", ["count"])
    common.check_picture(picture, overwrite)
    pipeline = common.on_path(load(source), drawing.path_option)
    out = out or common.own_place("samples", pipeline)
    _check_ensemble(resume, out, picture, known)
    if out.suffix != ".zarr":  # streamed by the core, in every domain
        check_suffix(out, pipeline.domain.suffixes, "samples of this domain")
    if not resume:
        common.refuse_existing(out, overwrite)
    given = common.pairs(condition, "--condition")
    asked = {
        **drawing.given(run),
        **_fixed(pipeline, known),
        **({} if read_out is None else {"read_out": read_out}),
    }
    count = _of_each_known(pipeline, asked, count, members)
    if start is not None or reverse:
        begun = _begun(pipeline, start, reverse, count, {"--members": members, "--cases": cases})
        count = len(begun["start"])
        asked.update(begun)
    elif members is None:
        members = members_of_each(pipeline, given, cases, count)
    if out.suffix == ".zarr":
        _stream(pipeline, out, members or count or DEFAULT_COUNT, given, cases, resume, overwrite, asked)
    elif members is not None:
        _ensemble(pipeline, out, members, given, cases, picture, asked)
    else:
        _some(pipeline, out, count or DEFAULT_COUNT, given, picture, asked)


def _some(
    pipeline: Pipeline, out: Path, count: int, given: dict[str, str], picture: Path | None, options: dict[str, Any]
) -> None:
    """Samples that are of no cases."""
    samples, cost = _draw(pipeline, count, {**options, "condition": given})
    write_samples(pipeline, samples, out, picture)
    tell(f"wrote {count} samples to {str(out)!r} ({cost}seed {options['seed']}).")


def _draw(pipeline: Pipeline, count: int, options: dict[str, Any]) -> tuple[SampleSet, str]:
    """The samples, and what each of them cost, in words."""
    from anydiff.denoisers.reversed import reversed_path
    from anydiff.pipeline.samplers import sampler_of

    own = (
        "seed", "guidance", "device", "batch_size", "condition", "known", "known_mask", "cases", "start", "reverse",
        "temperature", "read_out",
    )  # fmt: skip
    asked = {name: value for name, value in options.items() if name not in own or name == "guidance"}
    path = reversed_path(pipeline.denoiser.path) if options.get("reverse") else None
    sampler = sampler_of(pipeline, asked.pop("nfe", None), asked.pop("solver", None), asked, path)
    chunks = -(-count // options["batch_size"])
    rest = {name: value for name, value in options.items() if name in own}
    # A sampler that chooses its own steps does not know how many there will be.
    total = sampler.nfe * chunks or None
    with common.sampling_progress(total, f"sampling {count}") as progress:
        step = progress.task_ids[0]
        samples = pipeline.sample_set(count, solver=sampler, callbacks=[lambda _: progress.advance(step)], **rest)
    return samples, f"{sampler.nfe} NFE each, "


def _begun(
    pipeline: Pipeline, start: Path | None, reverse: bool, count: int | None, beside: dict[str, int | None]
) -> dict[str, Any]:
    """The arguments of :meth:`Pipeline.sample_set` for the objects that sampling begins with."""
    from anydiff.errors import AnydiffError
    from anydiff.pipeline.sampling import begun

    if start is None:
        raise AnydiffError("--reverse needs --start with the data that are travelled back from; name a file or folder.")
    for name, value in beside.items():
        if value is not None:
            raise AnydiffError(f"{name} {value} does not go with --start, which gives one sample for each object.")
    objects = list(pipeline.domain.read(start))
    if count is not None and count > len(objects):
        raise AnydiffError(
            f"--count is {count}, but {str(start)!r} holds {len(objects)} objects; ask for at most those."
        )
    return {"start": begun(pipeline, objects[:count]), "reverse": reverse}


def _fixed(pipeline: Pipeline, known: str | None) -> dict[str, Any]:
    """The arguments of :meth:`Pipeline.sample_set` for what must stay as it is."""
    if known is None:
        return {}
    from anydiff.domains import TakesScaffold
    from anydiff.errors import AnydiffError

    if not isinstance(pipeline.domain, TakesScaffold):
        raise AnydiffError(
            f"domain {pipeline.domain.name!r} takes no known entries as a text; in Python give known= and known_mask= "
            "to sample()."
        )
    state, mask = pipeline.domain.parse_known(known)
    return {"known": state, "known_mask": mask}


def _of_each_known(pipeline: Pipeline, asked: dict[str, Any], count: int | None, members: int | None) -> int | None:
    """How many samples there are where several objects are known: one for each, or the same number for each."""
    from anydiff.errors import AnydiffError

    known = asked.get("known")
    if known is None or known.ndim == len(pipeline.domain.spec.shape):
        return count
    if members is not None:
        raise AnydiffError(
            f"--members is {members}, but --known holds {len(known)} objects of its own; give --count, a multiple of "
            "that."
        )
    if count is not None and count % len(known):
        raise AnydiffError(
            f"--count is {count}, but --known holds {len(known)} objects; ask for a multiple of that, or leave it out."
        )
    asked["cases"] = len(known)
    return len(known) if count is None else count


def _check_ensemble(resume: bool, out: Path, picture: Path | None, known: str | None) -> None:
    from anydiff.errors import AnydiffError

    if resume and out.suffix != ".zarr":
        raise AnydiffError(f"--resume needs an --out that ends in .zarr, but it is {str(out)!r}; name it so.")
    if picture is not None and out.suffix == ".zarr":
        raise AnydiffError("--picture cannot be drawn of samples that are streamed; draw some with --count.")
    if known is not None and out.suffix == ".zarr":
        raise AnydiffError("--known does not go with samples that are streamed to .zarr; draw them with --count.")


def _stream(
    pipeline: Pipeline,
    out: Path,
    members: int,
    given: dict[str, str],
    cases: int | None,
    resume: bool,
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    from anydiff.pipeline.stream import StreamRequest, stream

    condition, count, labels = cases_named(pipeline, given, cases)
    seed, chunk = options.pop("seed"), options["batch_size"]
    with common.sampling_progress(1, f"streaming {members} members") as progress:
        stream(
            pipeline,
            out,
            StreamRequest(members, condition, count, labels, chunk, seed),
            resume=resume,
            overwrite=overwrite,
            progress=lambda done, total: progress.update(progress.task_ids[0], completed=done, total=total),
            **options,
        )
    tell(f"wrote {counted(members, count)} to {str(out)!r} (seed {seed}).")


def _ensemble(
    pipeline: Pipeline,
    out: Path,
    members: int,
    given: dict[str, str],
    cases: int | None,
    picture: Path | None,
    options: dict[str, Any],
) -> None:
    condition, count, labels = cases_named(pipeline, given, cases)
    samples = pipeline.ensemble_set(members, condition, cases=count, **options)
    write_samples(pipeline, samples, out, picture, labels)
    tell(f"wrote {counted(members, count)} to {str(out)!r} ({order_of_cases(members, count)}seed {options['seed']}).")
