"""``anydiff advise``: more calls, more training, or more samples?"""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import print_json, print_table, tell


def command(
    source: common.Source,
    count: Annotated[int, typer.Option(help="How many samples are judged.")] = 200,
    nfe: common.Nfe = None,
    tolerance: Annotated[
        float, typer.Option(help="The share of the whole error that the solver of a chosen setting may have.")
    ] = 0.1,
    seed: common.Seed = 0,
    batch_size: common.BatchSize = 256,
    device: common.Device = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether more calls, more training or more samples would help, and which solver to take.

    The error of the recipe's first metric is split: what the solver loses against the model's own fine limit (from the
    same noise), what the network loses against held-out data, and how wide the interval of so few samples is.

    Examples:
      anydiff advise weather/gee
      anydiff advise runs/fashion --nfe 5 --count 512
    """
    from anydiff.advise import advise
    from anydiff.pipeline import load

    pipeline = load(source)
    found = advise(
        pipeline, count, nfe=nfe, tolerance=tolerance, seed=seed, report=tell, batch_size=batch_size,
        device=common.check_device(device),
    )  # fmt: skip
    chosen = found.chosen
    if json:
        print_json(
            {
                "metric": found.card.as_dict(),
                "samples": found.samples,
                "value": found.asked.value,
                "limit": found.limit,
                "ceiling": found.ceiling,
                "solver": vars(found.asked.share),
                "network": vars(found.network),
                "sample": found.sample.value,
                "cause": found.cause,
                "chosen": None if chosen is None else {**vars(chosen), "share": vars(chosen.share)},
                "reachable": found.reachable,
                "levels": [{**vars(level), "share": level.share} for level in found.levels],
                "calls": found.calls,
                "advice": found.sentence,
            }
        )
        return
    name, nfe_asked = found.card.name, found.asked.nfe
    rows = [
        [f"{name} with {nfe_asked} calls", f"{found.asked.value:.4g}"],
        ["with as many calls as one likes", f"{found.limit:.4g}"],
        ["held-out data, or the ideal", f"{found.ceiling:.4g}"],
        ["lost by the solver", str(found.asked.share)],
        ["lost by the network", str(found.network)],
        [f"uncertain with {found.samples} samples", f"{found.sample.value:.2g}"],
    ]
    print_table(["", found.card.unit if found.card.unit != "1" else "value"], rows)
    levels = [[f"{each.log_snr:g}", f"{each.loss:.4g}", f"{each.share:.3f}"] for each in found.levels]
    print_table(["log-SNR", "denoising loss", "of a Gaussian's without correlations"], levels)
    tell(found.sentence)
    if chosen is not None:
        tell(f"the cheapest setting whose solver loses at most {found.tolerance:.0%} of the whole: {chosen.name}.")
