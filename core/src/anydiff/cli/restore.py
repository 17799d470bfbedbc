"""``anydiff restore``: samples of which a measurement was made, as the field's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.cases import counted, labels_named, order_of_cases, write_samples
from anydiff.cli.options import Drawing, Run
from anydiff.cli.output import tell


def command(
    source: common.Source,
    *,
    measurement: Annotated[Path, typer.Option(help="What was measured: a file of the domain, in its own units.")],
    operator: Annotated[
        str, typer.Option(metavar="NAME", help="What was measured of it (see `anydiff operators`).")
    ] = "mask",
    operator_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the operator; repeatable.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Which entries were observed, where the domain has a file for that.")
    ] = None,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the measurement's noise, in its own units (0: none).")
    ] = 0.0,
    method: Annotated[str, typer.Option(metavar="NAME", help="How (see `anydiff inverse`).")] = "mmps",
    method_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the method; repeatable.")
    ] = None,
    members: Annotated[int, typer.Option(help="Samples for each measurement.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder, by its ending (default: restored, with the domain's own ending)."),
    ] = None,
    picture: common.Picture = None,
    drawing: Drawing,
    condition: common.Condition = None,
    run: Run,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
) -> None:
    """Draw samples of which a measurement was made: gaps filled, small pictures enlarged, blur removed.

    Examples:
      anydiff restore images/fashion --measurement half.png --mask mask.png --members 8 --out filled
      anydiff restore images/fashion --measurement small.png --operator average-pooling --operator-option factor=4
      anydiff restore images/fashion --measurement blurred.png --operator blur --operator-option std=1.5 --out sharp
      anydiff restore images/fashion --measurement half.png --mask mask.png --method ddnm --nfe 50 --out other
    """
    from anydiff.data.reading import parse_yaml
    from anydiff.errors import natural_number
    from anydiff.files import check_suffix
    from anydiff.pipeline import load
    from anydiff.pipeline.restore import Restoration, restored
    from anydiff.registry import registry

    natural_number("--seed", run.seed, minimum=0)
    common.check_numbers(members=members, batch_size=run.batch_size)
    registry().get("operators", operator)  # wrong names are told before anything is loaded
    registry().get("inverse_methods", method)
    common.check_picture(picture, overwrite)
    pipeline = load(source)
    out = out or common.own_place("restored", pipeline)
    check_suffix(out, pipeline.domain.suffixes, "samples of this domain")
    common.refuse_existing(out, overwrite)

    def options(texts: list[str] | None, flag: str) -> dict[str, Any]:
        given = common.pairs(texts, flag)
        return {name: parse_yaml(value, f"{flag} {name}") for name, value in given.items()}

    given = common.pairs(condition, "--condition")
    named = labels_named(pipeline, given)
    asked = Restoration(
        operator, options(operator_option, "--operator-option"), noise, method,
        options(method_option, "--method-option"), members, mask,
        sampling={
            **drawing.given(run), "condition": given or None, "cases": None if named is None else len(named),
        },
    )  # fmt: skip
    samples, cases, labels = restored(pipeline, measurement, asked)
    write_samples(pipeline, samples, out, picture, labels or named)
    order = order_of_cases(members, cases)
    tell(f"wrote {counted(members, cases)} to {str(out)!r} ({order}method {method}, seed {run.seed}).")
