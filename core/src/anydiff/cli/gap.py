"""``anydiff gap``: do the ODE's and the SDE's samples of a model agree?"""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import print_json, print_table, tell


def command(
    source: common.Source,
    count: Annotated[int, typer.Option(help="How many samples each set has.")] = 1000,
    nfe: Annotated[int, typer.Option(help="Steps of the finest grid that is tried.")] = 400,
    seed: common.Seed = 0,
    batch_size: common.BatchSize = 256,
    device: common.Device = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how far a model's ODE samples are from its SDE samples, and where its score is inconsistent in time.

    Both are drawn on one grid, of so many steps that twice as many change neither. The residual of the Fokker-Planck
    equation is taken at held-out data, noised to log-spaced times.

    Examples:
      anydiff gap weather/gee
      anydiff gap runs/rings --count 5000
    """
    from anydiff.advise import gap
    from anydiff.pipeline import load

    found = gap(
        load(source), count, most=nfe, seed=seed, report=tell, batch_size=batch_size, device=common.check_device(device)
    )
    if json:
        rows = [vars(each) for each in found.residuals]
        print_json({**vars(found), "residuals": rows, "seen": found.seen, "summary": found.sentence})
        return
    distances = [
        ["ODE to SDE", f"{found.distance:.4g}"],
        ["two sets of one law", f"{found.floor:.4g}"],
        [f"{found.steps} steps to {found.steps // 2}", f"{found.change:.4g}"],
    ]
    print_table(["", "sliced Wasserstein distance"], distances)
    residuals = [[f"{each.t:.3g}", f"{each.log_snr:.3g}", f"{each.size:.4g}"] for each in found.residuals]
    print_table(["t", "log-SNR", f"residual of the {found.of}"], residuals)
    tell(found.sentence)
