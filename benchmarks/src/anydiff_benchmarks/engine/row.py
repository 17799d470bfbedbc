"""The record of one cell: what was computed, how good it is, what it cost, and what it depends on.

A row is one flat JSON object, in the store as in ``rows.jsonl``. Rows of earlier versions are read: a column that they
lack has its default. Columns of later versions are kept and written back as they came.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from anydiff.metrics import MetricCard
from anydiff.settings import Settings
from anydiff.tasks import canonical

Run = tuple[int, int]
"""(number of the training, sampling seed)."""
Part = tuple[int, int, int]
"""(number of the training, sampling seed or -1, number of the unit): -1 where the unit is a case or a block of them,
whatever the seed."""


class Row(Settings):
    """One row. Columns that do not apply (the solver of a baseline, the value of what failed) are None or empty.

    Attributes:
        task: ``domain/name@version``.
        method: name of the method, with that of its model; or name of the baseline.
        nfe: budget of network calls per sample; 0 for a baseline.
        training: which of the model's trainings.
        seed: of the samples.
        samples: how many were judged.
        metrics: name of a metric -> its value.
        cards: name of a metric -> what its value means.
        key: address in the store: the hash of ``inputs``.
        status: whether every metric has a value; ``not applicable`` where the method has no meaning on the task's path.
        reason: why one has none, in a sentence.
        domain: first part of the task's name.
        kind: whether a model made the samples.
        solver: the method's settings; None for a baseline.
        model: name of the model in the suite; empty for the bundled one.
        source: where its weights are; empty for bundled ones.
        training_seed: seed of the training.
        reference_samples: how many samples stood on the other side of the metrics.
        units: name of a metric -> its pseudo-value for each unit (:mod:`anydiff.metrics.jackknife`).
        cases: of a task that pairs samples and truths, the held-out rows that were judged.
        blocks: where cases depend on those that follow, so that units are blocks of them, the number of each block.
        problems: name of a metric -> why it has no value.
        counted_nfe: network calls per sample, counted.
        rows_per_call: network rows per sample and call; 2 where guidance doubles the batch.
        rows_per_sample: network rows per sample, counted.
        seconds: for sampling, warm and synchronised.
        metric_seconds: for judging.
        wall_seconds: for all of the cell.
        peak_memory_mib: most memory while sampling.
        memory_kind: what that memory is.
        parameters: of the network.
        multiply_adds: of a network call, per sample; conditions are encoded once beforehand.
        weights_bytes: of the weights on disk.
        calibration_calls: network calls that the method's calibration took, each of all its noises together.
        calibration_seconds: of the clock, for the same.
        machine: device, processor, threads and system.
        precision: number format of the sampling.
        inputs: what the row depends on.
        versions: distribution -> installed version.
        commit: of the checkout.
        host: name of the machine.
        started: UTC.
        ended: UTC.
        picture: path of the picture below the report; empty without one.
        note: why there is no picture.
        command: the command line.
    """

    model_config = ConfigDict(extra="allow", frozen=False, validate_assignment=True)

    CSV: ClassVar[tuple[str, ...]] = (
        "task", "kind", "method", "model", "training", "training_seed", "nfe", "seed", "samples", "reference_samples",
        "status", "counted_nfe", "rows_per_call", "rows_per_sample",
        "seconds", "metric_seconds", "peak_memory_mib", "parameters",
        "multiply_adds", "weights_bytes", "precision", "started", "reason", "key",
        "calibration_calls", "calibration_seconds",
    )  # fmt: skip
    """The columns of ``rows.csv``, in their order; behind them come the device and the metrics."""

    task: str
    method: str
    nfe: int
    training: int
    seed: int
    samples: int
    metrics: dict[str, float]
    cards: dict[str, MetricCard]

    key: str = ""
    status: Literal["done", "failed", "not applicable"] = "done"
    reason: str = ""
    domain: str = ""
    kind: Literal["method", "baseline"] = "method"
    solver: dict[str, Any] | None = None
    model: str = ""
    source: str = ""
    training_seed: int | None = None

    reference_samples: int | None = None
    units: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    cases: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    problems: dict[str, str] = Field(default_factory=dict)

    counted_nfe: float | None = None
    rows_per_call: float | None = None
    rows_per_sample: float | None = None
    seconds: float | None = None
    metric_seconds: float | None = None
    wall_seconds: float | None = None
    peak_memory_mib: float | None = None
    memory_kind: str = ""
    parameters: int | None = None
    multiply_adds: int | None = None
    weights_bytes: int | None = None
    calibration_calls: int | None = None
    calibration_seconds: float | None = None
    machine: dict[str, str] = Field(default_factory=dict)
    precision: str = ""

    inputs: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str = ""
    host: str = ""
    started: str = ""
    ended: str = ""
    picture: str = ""
    note: str = ""
    command: str = ""

    @property
    def run(self) -> Run:
        """What is paired with the same run of other methods."""
        return self.training, self.seed

    def unit_numbers(self, metric: str) -> list[Part]:
        """What each of the metric's units is: units of equal numbers are of one case, or of one draw of samples."""
        count = len(self.units[metric])
        if self.blocks and self.cards[metric].uncertainty == "cases":
            return [(self.training, -1, block) for block in self.blocks]
        if self.cases and self.cards[metric].uncertainty == "cases":
            return [(self.training, -1, case) for case in self.cases[:count]]
        return [(self.training, self.seed, number) for number in range(count)]

    @property
    def done(self) -> bool:
        """Whether every metric has a value."""
        return self.status == "done"

    @property
    def failed(self) -> bool:
        """Whether something went wrong."""
        return self.status == "failed"

    def leave_out(self, reason: str) -> None:
        """Mark the row as one that its task cannot have."""
        self.status, self.reason = "not applicable", reason

    def fail(self, reason: str) -> None:
        """Mark the row as failed."""
        self.status, self.reason = "failed", reason

    def text(self) -> str:
        """The row as one line of JSON; columns that came later stand where they say something, so old rows stay."""
        found = self.model_dump()
        later = ("multiply_adds", "weights_bytes", "calibration_calls", "calibration_seconds")
        for name in ("units", "cases", "blocks", *later):
            if found[name] is None or found[name] in ({}, ()):
                del found[name]
        for card in found["cards"].values():
            if card["uncertainty"] == "set":
                del card["uncertainty"]
        return canonical(found)
