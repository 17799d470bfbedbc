"""The held-out data of tasks, in a process of its own: whoever draws samples cannot look at what they are judged by.

:class:`TruthProcess` is the side of the worker: it starts ``python -m anydiff_benchmarks.engine.truth`` once and asks
it by messages. The process opens a task (data, metrics), says what a model may be told (conditions, never states), and
judges samples that were already drawn. It ends with its worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from anydiff.advise import denoising_levels
from anydiff.errors import AnydiffError, show_warning
from anydiff.inverse import Problem
from anydiff.metrics import Judge, MetricCard, SampleSet, UnitValues, blocks_of, repeat_cases, unit_values
from anydiff.pipeline import load
from anydiff.recipes import build_dataset, load_recipe, sample_set
from anydiff.registry import registry
from anydiff.states import Conditioning, permutation
from anydiff.tasks import (
    Task,
    check_lock,
    freeze,
    is_paired,
    load_task,
    lock_hash,
    measured_problem,
    task_metrics,
    with_hidden,
)  # fmt: skip

_SPREAD = 10.0
LEVEL_CASES = 32
"""Held-out examples at each noise level."""


@dataclasses.dataclass(frozen=True)
class Opening:
    """What is known of a task without its states.

    Attributes:
        frozen: hash of what the task depends on.
        asked: the conditions a model may be told, a row per case.
        size: how many held-out examples there are.
        cards: of the metrics.
        least: fewer cases say nothing, or are refused by one of the metrics.
        facts: hashes, names and sizes of held-out and training data.
        picture: a picture of held-out data; empty without one.
        note: why there is none.
    """

    frozen: str
    asked: Conditioning
    size: int
    cards: tuple[MetricCard, ...]
    least: int
    facts: Mapping[str, Any]
    picture: bytes
    note: str


@dataclasses.dataclass(frozen=True)
class Judged:
    """The values of a sample set: one per metric, or the reason why there is none; their units (see
    :mod:`anydiff.metrics.jackknife`) and the cases, or the blocks of cases, that these are of; and how long it took.
    """

    values: Mapping[str, float]
    units: Mapping[str, UnitValues]
    cases: tuple[int, ...]
    blocks: tuple[int, ...]
    problems: Mapping[str, str]
    seconds: float
    reference: int
    samples: int


class Truth:
    """The held-out data and the metrics of one task.

    Raises:
        AnydiffError: the task is not what was published, or names no metric.
    """

    def __init__(self, task: Task) -> None:
        frozen = freeze(task, sketch=False)
        check_lock(task, frozen)
        self.task = task
        self.frozen = lock_hash(frozen)
        self.recipe = load_recipe(task.recipe)
        self.metrics = task_metrics(task, self.recipe)
        if not self.metrics and not task.evaluator:
            raise AnydiffError(f"task {task.id!r} and its recipe name no metric, so nothing is judged; add metrics.")
        data = build_dataset(self.recipe, task.split)
        self.reference = sample_set(data, range(len(data)))
        self.domain = self.reference.domain
        self.dependence = data.dependence
        self.hash: str = frozen["held-out data"]["hash"]
        training = frozen["training data"]
        self.training = {"hash": training["hash"], "samples": training["examples"]}
        self.paired = is_paired(task, self.recipe)
        known = [registry().get("metrics", part.name).metadata for part in task.metrics or self.recipe.metrics]
        of_cases = [bool(about.get("paired") or about.get("oracle")) for about in known]
        self.cards = [self._card(metric.card, each) for metric, each in zip(self.metrics, of_cases, strict=False)]

    def opening(self, gallery: int) -> Opening:
        """What the other side may know; ``gallery`` examples are drawn."""
        picture, note = drawn(self.reference, gallery)
        size = len(self.reference)
        least = max([self.task.minimum_cases, *(card.minimum_samples for card in self.cards)])
        facts = {"data set": self.recipe.dataset.name, "hash": self.hash, "samples": size, "split": self.task.split}
        facts = {"reference": facts, "training data": self.training}
        asked = self.reference.asked(size)
        asked = asked if self.task.told is None else asked.only(self.task.told)
        return Opening(self.frozen, asked, size, tuple(self.cards), least, facts, picture, note)

    def judge(self, states: Tensor, condition: Conditioning, cases: Tensor) -> Judged:
        """All metrics; one that fails does not keep the others from their value.

        Args:
            states: the samples.
            condition: what they were asked for.
            cases: the held-out rows that were asked for; sample k is of row ``cases[k % len(cases)]``.
        """
        reference = _rows(self.reference, cases) if self.paired else self.reference
        numbers = tuple(cases.tolist()) if self.paired else ()
        if self.task.measured:
            seen = with_hidden(reference.condition, self.measured(cases), len(reference))
            reference = SampleSet(reference.states, seen, self.domain)
        return self._judge(SampleSet(states, condition, self.domain), reference, numbers)

    def measured(self, cases: Tensor) -> Problem:
        """What was measured of the held-out rows ``cases``; see :func:`anydiff.tasks.measured_problem`."""
        return measured_problem(self.task, _rows(self.reference, cases), cases.tolist())

    def real(self, count: int, seed: int) -> Judged:
        """Held-out data against the rest of it: at most half, so that both sides are left with enough."""
        size = len(self.reference)
        order = torch.as_tensor(permutation(seed, 0, "baseline/real", size))
        chosen = min(count, size // 2)
        return self._judge(_rows(self.reference, order[:chosen]), _rows(self.reference, order[chosen:]))

    def levels(self, source: str) -> dict[str, Any]:
        """The loss of a model at fixed noise levels, as plain data; a sentence where it has none.

        Args:
            source: run folder or weights file; empty for the bundled weights of the task's recipe.
        """
        try:
            found = denoising_levels(load(source or self.task.recipe), LEVEL_CASES)
        except Exception as error:  # a plugin's network or data may raise anything; the run goes on without
            return {"problem": reason(error)}
        about = [{**dataclasses.asdict(level), "share": level.share} for level in found]
        return {"levels": [{name: finite(value) for name, value in each.items()} for each in about]}

    def _judge(self, samples: SampleSet, reference: SampleSet, cases: tuple[int, ...] = ()) -> Judged:
        values: dict[str, float] = {}
        units: dict[str, UnitValues] = {}
        problems: dict[str, str] = {}
        began = time.perf_counter()
        asked = Judge(samples, reference)
        blocks = blocks_of(cases, len(self.reference), self.dependence) if cases else None
        for metric, card in zip(self.metrics, self.cards, strict=True):
            try:
                metric.check(samples, reference)
                value = values[card.name] = asked.value(metric, card.name)
                own = metric.scores(samples, reference)
                found = unit_values(
                    metric.compute, value, samples, reference, card.uncertainty, card.minimum_samples, own, blocks
                )
                if found is not None:
                    units[card.name] = found
            except Exception as error:  # a plugin's metric may raise anything; the run goes on and the row says so
                problems[card.name] = reason(error)
        seconds = time.perf_counter() - began
        told = tuple(sorted(set(blocks or ())))
        return Judged(values, units, cases, told, problems, seconds, len(reference), len(samples))

    def _card(self, card: MetricCard, of_cases: bool) -> MetricCard:
        """The card with its reference; an oracle that does not say so is labelled."""
        members = self.task.members or 1
        if members > 1 and not card.oracle_of and self._chooses(card.name, members):
            card = dataclasses.replace(card, oracle_of=members)
        if of_cases:
            card = dataclasses.replace(card, uncertainty="cases")
        return dataclasses.replace(card, reference=self.hash)

    def _chooses(self, name: str, members: int) -> bool:
        """Whether one perfect member among hopeless ones is judged perfect: then the metric picks it by the truth."""
        metric = next(metric for metric in self.metrics if metric.card.name == name)
        cases = min(len(self.reference), max(metric.card.minimum_samples, 8))
        truth = _rows(self.reference, torch.arange(cases))
        spread = truth.states.std() * _SPREAD + 1
        hopeless = [truth.states.roll(shift + 1, 0) + spread * (shift + 1) for shift in range(members - 1)]
        condition = repeat_cases(truth.condition, members)
        try:
            best = metric.compute(SampleSet(torch.cat([truth.states, *hopeless]), condition, self.domain), truth)
            worst = metric.compute(SampleSet(torch.cat([hopeless[0], *hopeless]), condition, self.domain), truth)
        except Exception:  # a metric that cannot judge such states is judged by its card alone
            return False
        ideal = metric.card.ideal
        return abs(best - ideal) <= 1e-6 * max(1.0, abs(worst - ideal)) < abs(worst - ideal)


def drawn(samples: SampleSet, count: int) -> tuple[bytes, str]:
    """(picture of the first ``count`` samples, why there is none)."""
    if not count:
        return b"", ""
    states = samples.states[:count]
    condition = samples.condition.rows(slice(count))
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            titles = samples.domain.describe_condition(condition)
            samples.domain.draw(samples.domain.decode(states, condition), path, titles or None)
            return path.read_bytes(), ""
    except Exception as error:  # a domain may lack its drawing library; the benchmark does not need pictures
        return b"", reason(error)


def finite(value: float) -> float | None:
    """A number as JSON holds it: null for what is none."""
    return value if math.isfinite(value) else None


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AnydiffError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _rows(samples: SampleSet, rows: Tensor) -> SampleSet:
    return SampleSet(samples.states[rows], samples.condition.rows(rows), samples.domain)


# The process ----------------------------------------------------------------------------------------------------------


class TruthProcess:
    """Asks a process with the held-out data; started when it is first needed, and again if it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._code: dict[str, str] = {}

    def outdated(self, code: Mapping[str, str]) -> bool:
        """Whether a distribution that was seen here before has other code now: what judges remembers the old one."""
        changed = any(self._code.get(name, digest) != digest for name, digest in code.items())
        self._code.update(code)
        return changed

    def open(self, task_id: str, gallery: int) -> Opening:
        """See :meth:`Truth.opening`."""
        opening: Opening = self._ask("opening", task_id, gallery)
        return opening

    def judge(self, task_id: str, samples: SampleSet, cases: Tensor) -> Judged:
        """See :meth:`Truth.judge`."""
        judged: Judged = self._ask("judge", task_id, samples.states, samples.condition, cases)
        return judged

    def measured(self, task_id: str, cases: Tensor) -> Problem:
        """See :meth:`Truth.measured`."""
        problem: Problem = self._ask("measured", task_id, cases)
        return problem

    def real(self, task_id: str, count: int, seed: int) -> Judged:
        """See :meth:`Truth.real`."""
        judged: Judged = self._ask("real", task_id, count, seed)
        return judged

    def levels(self, task_id: str, source: str) -> dict[str, Any]:
        """See :meth:`Truth.levels`."""
        levels: dict[str, Any] = self._ask("levels", task_id, source)
        return levels

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _ask(self, question: str, task_id: str, *arguments: Any) -> Any:
        for attempt in (1, 2):
            try:
                kind, answer = self._exchange((question, task_id, arguments))
                break
            except (EOFError, OSError, pickle.UnpicklingError) as error:
                self._process = None
                if attempt == 2:
                    raise AnydiffError(
                        f"the process that judges task {task_id!r} died twice; a metric or its library crashed."
                    ) from error
        if kind == "error":
            raise AnydiffError(answer)
        return answer

    def _exchange(self, message: Any) -> Any:
        if self._process is None:
            paths = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "anydiff_benchmarks.engine.truth", str(torch.get_num_threads())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": paths},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _send(self._process.stdin, message)
        return _receive(self._process.stdout)


class TruthHere(TruthProcess):
    """The same in this process: sooner ready and easier to debug, but a plugin that searches its memory finds it."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks = OpenTasks()

    def close(self) -> None:
        """Let go of the held-out data."""
        self._tasks = OpenTasks()

    def _ask(self, question: str, task_id: str, *arguments: Any) -> Any:
        return self._tasks.answer(question, task_id, *arguments)


class OpenTasks:
    """The tasks that were asked about, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[str, Truth] = {}

    def answer(self, question: str, task_id: str, *arguments: Any) -> Any:
        """What the method ``question`` of the task's :class:`Truth` returns."""
        if task_id not in self._opened:
            self._opened[task_id] = Truth(load_task(task_id))
        return getattr(self._opened[task_id], question)(*arguments)


def _send(stream: IO[bytes], message: Any) -> None:
    content = pickle.dumps(message)  # between two processes of ours; no file is ever read so
    stream.write(struct.pack(">Q", len(content)) + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(stream.read(struct.unpack(">Q", head)[0]))


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the other side is gone."""
    tasks = OpenTasks()
    while True:
        try:
            question, task_id, arguments = _receive(questions)
        except EOFError:
            return
        try:
            answer = ("answer", tasks.answer(question, task_id, *arguments))
        except Exception as error:  # the other side turns it into the row's reason
            answer = ("error", reason(error))
        _send(answers, answer)


def _main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    warnings.showwarning = show_warning
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a plugin prints must not get among the answers
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    # Under its own name, so that what is sent can be read by whoever imports it.
    from anydiff_benchmarks.engine import truth

    truth._main()
