"""What holds each model of a run back, by :func:`anydiff.advise.advise`, kept beside the rows for the report."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

from anydiff.advise import Advice, advise
from anydiff.errors import AnydiffError
from anydiff.pipeline import load
from anydiff_benchmarks.engine.store import Store
from anydiff_benchmarks.engine.truth import finite

NOTE = "advice"


def advise_run(store: Store, patterns: Sequence[str], count: int, report: Callable[[str], None]) -> int:
    """Ask about every model of the store's last run, and remember the answers; how many there are.

    A model that cannot be advised (an autoencoder, too few held-out examples) is remembered with the sentence.

    Args:
        store: of the run.
        patterns: only tasks that match one of these; all without any.
        count: samples to judge.
        report: told what is being done.

    Raises:
        AnydiffError: nothing was run yet, or no task matches.
    """
    run = store.note("run")
    if run is None:
        raise AnydiffError(f"{str(store.path.parent)!r} holds no benchmark yet; run `anydiff bench run` first.")
    names = [name for name in run["tasks"] if not patterns or any(fnmatch.fnmatchcase(name, each) for each in patterns)]
    if not names:
        raise AnydiffError(f"tasks is {', '.join(patterns)}, but the run has {', '.join(run['tasks'])}; name some.")
    answers: dict[str, Any] = store.note(NOTE, {})
    told = 0
    for name in names:
        facts = run["tasks"][name]
        for model in facts["trainings"]:
            report(f"{name}, {model['model'] or 'bundled weights'}")
            source = model["source"] or facts["recipe name"]
            try:
                answer = _plain(advise(load(source), count, batch_size=run["suite"]["batch_size"]))
            except AnydiffError as error:
                answer = {"refused": str(error)}
            answers.setdefault(name, {})[model["weights"]] = {"model": model["model"], **answer}
            store.remember(NOTE, answers)
            told += 1
    return told


def _plain(advice: Advice) -> dict[str, Any]:
    asked, chosen = advice.asked, advice.chosen
    return {
        "metric": advice.card.as_dict(),
        "samples": advice.samples,
        "solver": f"{asked.solver}, {asked.nfe} calls",
        "value": asked.value,
        "limit": advice.limit,
        "ceiling": advice.ceiling,
        "lost by the solver": [asked.share.value, finite(asked.share.half_width)],
        "lost by the network": [advice.network.value, finite(advice.network.half_width)],
        "uncertain": advice.sample.value,
        "cause": advice.cause,
        "chosen": "" if chosen is None else chosen.name,
        "sentence": advice.sentence,
    }
