"""``anydiff edit``: the field's own files as another condition, or another model, would have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.cases import counted
from anydiff.cli.output import print_json, print_table, tell

if TYPE_CHECKING:
    from anydiff.editing import NoiseRecord
    from anydiff.metrics import SampleSet
    from anydiff.pipeline import Pipeline

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FACTS = ("exact", "takes", "source")


def command(
    source: common.Source,
    objects: Annotated[Path, typer.Argument(help="What is edited: a file or folder of the domain.")],
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What they are to become, label=sneaker say; repeatable."),
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="What they are; repeatable (default: not told).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Another model of the same domain, as which they are to come out.")
    ] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="How (see `anydiff edits`).")] = "edit-friendly",
    method_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the method; repeatable.")
    ] = None,
    skip: Annotated[
        float | None,
        typer.Option(help="Share of the noisiest steps left out, in [0, 1): the more, the nearer to what is edited."),
    ] = None,
    roll: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=OFFSET", help="Move by entries along an axis of a sample (edit-friendly); repeatable."
        ),
    ] = None,
    members: Annotated[int, typer.Option(help="Edits of each object.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="File or folder, by its ending (default: edited, with the domain's own ending).")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Also draw each object beside its edit to this PNG.")] = None,
    nfe: common.Nfe = None,
    solver: Annotated[
        str | None, typer.Option(help="A stochastic solver (see `anydiff solvers`; default: the method's).")
    ] = None,
    option: common.SolverOption = None,
    grid: common.GridName = None,
    end: common.End = None,
    guidance: common.Guidance = None,
    guidance_option: common.GuidanceOption = None,
    source_guidance: Annotated[
        str | None, typer.Option(metavar="SCALE|NAME", help="Guidance towards --given (default: none).")
    ] = None,
    seed: common.Seed = 0,
    batch_size: common.BatchSize = 256,
    device: common.Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
) -> None:
    """Edit objects: other labels, properties or times, another model, or moved entries; what is not asked for stays.

    Examples:
      anydiff edit images/fashion shoes/ --given label=Sneaker --to label="Ankle boot" --out boots --picture pair.png
      anydiff edit images/fashion shoes/ --given label=Sneaker --to label=Bag --method cycle-diffusion --out bags
      anydiff edit molecules/qm9 mine.smi --given logp=0.5 --to logp=2 --out edited.smi
      anydiff edit images/fashion shoes/ --given label=Sneaker --roll 2=5 --out moved
    """
    from anydiff.data.reading import parse_yaml
    from anydiff.errors import natural_number
    from anydiff.files import check_suffix
    from anydiff.pipeline import load
    from anydiff.pipeline.edit import Editing, edited
    from anydiff.registry import registry

    natural_number("--seed", seed, minimum=0)
    natural_number("--members", members)
    natural_number("--batch-size", batch_size)
    registry().get("edits", method)  # a wrong name is told before anything is loaded
    common.check_picture(picture, overwrite)
    pipeline = load(source)
    out = out or common.own_place("edited", pipeline)
    check_suffix(out, pipeline.domain.suffixes, "samples of this domain")
    common.refuse_existing(out, overwrite)
    method_options: dict[str, Any] = {
        name: parse_yaml(value, f"--method-option {name}")
        for name, value in common.pairs(method_option, "--method-option").items()
    }
    if roll:
        method_options["change"] = _rolling(common.pairs(roll, "--roll"))
    sources = pipeline.domain.read(objects)
    solving = common.sampling_options(solver, nfe, grid, end, option)
    asked = Editing.of(
        {
            **solving, "to": common.pairs(to, "--to") or None, "given": common.pairs(given, "--given") or None,
            "model": None if model is None else load(model), "method": method, "method_options": method_options,
            "skip": skip, "members": members, "guidance": common.guiding(guidance, guidance_option),
            "source_guidance": common.guiding(source_guidance, None), "seed": seed,
            "device": common.check_device(device), "batch_size": batch_size,
        }
    )  # fmt: skip
    samples = edited(pipeline, sources, asked)
    _write(pipeline, sources, samples, out, picture)
    tell(f"wrote {counted(members, len(sources))} to {str(out)!r} (method {method}, seed {seed}).")


def _rolling(pairs: dict[str, str]) -> Any:
    """What ``--roll AXIS=OFFSET`` makes of a record.

    Raises:
        AnydiffError: an axis or offset that is no whole number.
    """
    from anydiff.errors import AnydiffError

    try:
        moves = {int(axis): int(offset) for axis, offset in pairs.items()}
    except ValueError:
        raise AnydiffError(f"--roll is {pairs}; write AXIS=OFFSET with whole numbers, --roll 2=5 say.") from None

    def change(record: NoiseRecord) -> NoiseRecord:
        for axis, offset in moves.items():
            record = record.roll(offset, axis)
        return record

    return change


def _write(pipeline: Pipeline, sources: list[Any], samples: SampleSet, out: Path, picture: Path | None) -> None:
    """The edits as files, and each object beside its edits as a picture."""
    found = pipeline.domain.decode(samples.states, samples.condition)
    pipeline.domain.write(found, out)
    if picture is None:
        return
    titles, count = pipeline.titles(samples) or ["after"] * len(found), len(sources)
    tiles: list[Any] = []
    words: list[str] = []
    for row in range(count):
        of_row = range(row, len(found), count)
        tiles += [sources[row], *(found[each] for each in of_row)]
        words += ["before", *(titles[each] for each in of_row)]
    pipeline.domain.draw(tiles, picture, words)
    tell(f"drew them to {str(picture)!r}.")


def edits(json: Json = False) -> None:
    """List the methods of editing: whether they give samples back, which plans they take, and the source.

    Examples:
      anydiff edits
      anydiff edits --json
    """
    from anydiff.registry import registry

    entries = registry().entries("edits")
    if json:
        print_json(
            [
                {"name": each.name, "help": each.help, "plugin": each.plugin}
                | {fact: each.metadata.get(fact) for fact in FACTS}
                for each in entries
            ]
        )
        return
    rows = []
    for each in entries:
        exact, *rest = (each.metadata.get(fact, "") for fact in FACTS)
        rows.append([each.name, "yes" if exact else "no", *rest, each.help])
    print_table(["method", *FACTS, "what it is"], rows)
