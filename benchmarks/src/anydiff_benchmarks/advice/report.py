"""The study as Markdown: what was predicted beside what was measured, and how many of both agree."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from anydiff_benchmarks.advice.study import ASKED, LIMIT, TIMES, WITHIN
from anydiff_benchmarks.peers.report import table

Rows = Sequence[Mapping[str, Any]]


def markdown(rows: Rows) -> str:
    """The page of all rows."""
    studied = [row for row in rows if "fault" not in row and "refused" not in row]
    chosen = [row for row in studied if "chosen" in row]
    refused = [row for row in rows if "refused" in row]
    faults = [row for row in rows if "fault" in row]
    parts = [
        "# What `anydiff advise` says, measured",
        f"{len(studied)} rows of {len({row['recipe'] for row in studied})} recipes, each of one seed of the noise; ten "
        "recipes and three seeds are what the command runs, and it goes on where it was stopped. Asked about: the "
        f"recipe's own solver with {ASKED} calls. Predicted by `anydiff advise` from one noise and its own limit; "
        f"measured from another noise with a limit of {LIMIT} calls. The distance is that of the states from the "
        "limit's, root mean square over their spread; the share is that of the recipe's first metric, in its own unit, "
        "with half the width of its 95 % interval.",
        _solver_summary(studied),
        table(["recipe", "seed", "samples", "predicted distance", "measured", "predicted / measured", "predicted share",
               "measured share"], [_solver(row) for row in studied]),
        "## The chosen setting beside all others with as many calls",
        "The error is the metric's value less what held-out data reach (of a forecast, its ideal). Behind: how much "
        "worse the chosen setting is than the best of all solvers and grids, case by case, with half the width of the "
        "95 % interval; the best is who happened to be so of as many as are counted.",
        _chosen_summary(chosen),
        table(["recipe", "seed", "samples", "chosen", "calls", "settings", "best", "error / best error", "behind",
               "distance / nearest"], [_chosen(row) for row in chosen]),
    ]  # fmt: skip
    if faults:
        parts += [
            "## Planted faults",
            table(["recipe", "fault", "truth", "called", "sentence"],
                  [[row["recipe"], row["fault"], row["truth"], row["cause"], row["sentence"]] for row in faults]),
        ]  # fmt: skip
    parts += [f"{row['recipe']}, seed {row['seed']}, was refused: {row['refused']}" for row in refused]
    seconds = [row["advise seconds"] for row in studied]
    if seconds:
        parts.append(
            f"`advise` took {statistics.median(seconds):.0f} s (median, {max(seconds):.0f} s at most) and "
            f"{max(row['calls'] for row in studied):,} calls per sample at most, on one core that others used, too."
        )
    return "\n\n".join(parts) + "\n"


def within(row: Mapping[str, Any]) -> bool | None:
    """Whether the predicted distance is within :data:`WITHIN` of the measured one; None of a stochastic solver."""
    if row["measured distance"] is None:
        return None
    return abs(float(row["predicted distance"]) / float(row["measured distance"]) - 1) <= WITHIN


def told(row: Mapping[str, Any]) -> bool:
    """Whether the measured share of the solver is at least twice as large as half its interval."""
    half = row["measured half width"]
    return half is not None and abs(float(row["measured"])) >= 2 * float(half)


def good(row: Mapping[str, Any]) -> bool | None:
    """Whether the chosen setting's error is at most :data:`TIMES` that of the best; None where nothing was chosen, and
    where there is nothing to compare with. Beside an error below the ceiling's, which is luck, the interval decides.
    """
    if row["chosen"] is None or row["settings"] < 2:
        return None
    if row["best error"] <= 0:
        return float(row["behind"]) <= float(row["behind half width"] or 0)
    return float(row["chosen error"]) <= TIMES * float(row["best error"])


def _solver_summary(rows: Rows) -> str:
    distances = [found for row in rows if (found := within(row)) is not None]
    shares = [row for row in rows if told(row)]
    near = [abs(row["predicted"] / row["measured"] - 1) <= WITHIN for row in shares]
    return (
        f"The distance is within {WITHIN:.0%} of what is measured in {sum(distances)} of {len(distances)} rows. The "
        f"metric's share is large enough to be told (twice half its interval) in {len(shares)} of {len(rows)}, and "
        f"within {WITHIN:.0%} in {sum(near)} of these."
    )


def _chosen_summary(rows: Rows) -> str:
    found = [each for row in rows if (each := good(row)) is not None]
    alone = sum(row["chosen"] is not None and row["settings"] < 2 for row in rows)
    none = sum(row["chosen"] is None for row in rows)
    beyond = [row for row in rows if good(row) is False and abs(row["behind"]) > (row["behind half width"] or 0)]
    return (
        f"The error is at most {TIMES:g} times the best in {sum(found)} of {len(found)} rows; of the others the "
        f"difference is beyond its interval in {len(beyond)}. In {none} rows no setting was chosen, and in {alone} the "
        "recipe draws noise on its way, so that no other solver leads to its limit."
    )


def _solver(row: Mapping[str, Any]) -> list[str]:
    distance = ["–", "–", "–"]
    if row["measured distance"] is not None:
        predicted, measured = row["predicted distance"], row["measured distance"]
        distance = [f"{predicted:.4f}", f"{measured:.4f}", f"{predicted / measured:.2f}"]
    return [row["recipe"], str(row["seed"]), str(row["samples"]), *distance,
            *(_share(row[name], row[f"{name} half width"]) for name in ("predicted", "measured"))]  # fmt: skip


def _chosen(row: Mapping[str, Any]) -> list[str]:
    about = [row["recipe"], str(row["seed"]), str(row["samples"])]
    if row["chosen"] is None:
        return [*about, "none", *["–"] * 6]
    ratio = row["chosen error"] / row["best error"] if row["best error"] else float("nan")
    nearest = row["nearest distance"]
    distance = "–" if not nearest else f"{row['chosen distance'] / nearest:.2f}"
    return [*about, row["chosen"], str(row["chosen calls"]), str(row["settings"]), row["best"],
            f"{ratio:.3f}", _share(row["behind"], row["behind half width"]), distance]  # fmt: skip


def _share(value: float, half: float | None) -> str:
    return f"{value:.3g}" + ("" if half is None else f" ± {half:.2g}")
