"""What ``anydiff sample`` and ``anydiff optimise`` share: which cases, how many samples of each, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anydiff.cli.output import tell

if TYPE_CHECKING:
    from anydiff.metrics import SampleSet
    from anydiff.pipeline import Pipeline
    from anydiff.pipeline.conditions import Asked

DEFAULT_COUNT = 16


def labels_named(pipeline: Pipeline, given: dict[str, str]) -> list[Any] | None:
    """What tells the cases apart that ``given`` names; None where it names none."""
    from anydiff.domains import NamesCases

    return pipeline.domain.labels(given) if given and isinstance(pipeline.domain, NamesCases) else None


def members_of_each(pipeline: Pipeline, given: dict[str, str], cases: int | None, count: int | None) -> int | None:
    """How many samples each case has without --members; None where no cases are named.

    By default one of each held-out example and of each object that is restored, and several of what else a file names.
    """
    from anydiff.errors import AnydiffError

    labels = labels_named(pipeline, given)
    if labels is None and (given or cases is None):
        if cases is not None:
            raise AnydiffError(
                f"--cases is {cases}, but --condition {next(iter(given))} names no cases; give --members for an "
                "ensemble, or --count."
            )
        return None
    of_each = cases or len(labels or ())
    if count is not None and count % of_each:
        raise AnydiffError(
            f"--count is {count}, but there are {of_each} cases; give --members, how many for each of them, and "
            "--cases to take the first ones alone."
        )
    if count is not None:
        return count // of_each
    return 1 if labels is None or pipeline.denoiser.path.known else DEFAULT_COUNT


def cases_named(
    pipeline: Pipeline, given: dict[str, str], cases: int | None
) -> tuple[Asked, int, Sequence[Any] | None]:
    """The condition with one row per case, how many cases there are, and what tells them apart.

    They are those that ``given`` names, the first of held-out data where nothing is given, else ``cases`` of one kind.
    """
    from anydiff.errors import AnydiffError

    labels = labels_named(pipeline, given)
    if labels is not None:
        count = len(labels) if cases is None else cases
        if count > len(labels):
            raise AnydiffError(
                f"--cases is {cases}, but --condition names {len(labels)} cases; lower it or leave it out."
            )
        return pipeline.conditioning(given, len(labels)).rows(slice(count)), count, labels[:count]
    if given or cases is None:
        return dict(given), cases or 1, None
    reference = pipeline.reference(cases)
    if len(reference) < cases:
        raise AnydiffError(f"--cases is {cases}, but the held-out data are {len(reference)} examples; lower it.")
    if not reference.asked(1):
        raise AnydiffError(f"--cases is {cases}, but the held-out data have no conditions to ask for; use --count.")
    return reference.asked(len(reference)), len(reference), reference.labels


def write_samples(
    pipeline: Pipeline, samples: SampleSet, out: Path, picture: Path | None, labels: Sequence[Any] | None = None
) -> None:
    """Write samples to ``out``, each with the label of its case, and draw them where a picture is asked for."""
    from anydiff.domains import LabelsSamples

    objects = pipeline.domain.decode(samples.states, samples.condition)
    if labels is not None and isinstance(pipeline.domain, LabelsSamples):
        rows = range(len(objects))
        of_rows = [labels[row % len(labels)] for row in rows]
        objects = pipeline.domain.labelled(objects, of_rows, [row // len(labels) for row in rows])
    pipeline.domain.write(objects, out)
    if picture is not None:
        pipeline.domain.draw(objects, picture, pipeline.titles(samples))
        tell(f"drew them to {str(picture)!r}.")


def counted(members: int, cases: int) -> str:
    """``2 samples for each of 3 cases``."""
    samples = "1 sample" if members == 1 else f"{members} samples"
    return f"{samples} for 1 case" if cases == 1 else f"{samples} for each of {cases} cases"


def order_of_cases(members: int, cases: int) -> str:
    """In which order they come, where that can be mistaken."""
    return (
        "the first sample of every case, then the second of every case, and so on; " if min(members, cases) > 1 else ""
    )
