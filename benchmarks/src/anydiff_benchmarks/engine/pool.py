"""Where jobs run: in this process, or on Dask workers (of this machine, or of any cluster by its address).

A job belongs to a group (a task with a model). Workers keep what they loaded for a group, so a worker is given jobs of
its own groups first. Each has one job at a time, and its result is fetched before the next is sent: when a worker dies,
that one job is lost and run again elsewhere, and no finished one.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from anydiff.errors import AnydiffError
from anydiff.optional import require

DEATHS = 3
"""A job that so many workers died of is given up."""
_MOST_BY_DEFAULT = 8
_PATIENCE = 2.0
_ALONE = 180.0
_IDLE = 20.0


@dataclass
class Job:
    """A call of plain data, and what it belongs to.

    Attributes:
        function: importable by its name.
        arguments: of the call.
        group: what a worker loads for it.
        cost: expected seconds.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    group: Any
    cost: float = 0.0


class Pool(Protocol):
    """Runs jobs."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        """(job, result) as they finish; the result is an exception where the call could not be made or raised one."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


class SerialPool:
    """This process, one job after the other."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        """See :class:`Pool`."""
        for job in jobs:
            try:
                result: Any = job.function(*job.arguments)
            except Exception as error:
                result = error
            yield job, result

    def close(self) -> None:
        """Let go of the models."""
        from anydiff_benchmarks.engine.worker import forget_models

        forget_models()


def make_pool(workers: int | None, scheduler: str) -> Pool:
    """The pool of ``workers`` processes (None: one per core, at most eight; 0: this process), or of a Dask cluster.

    Raises:
        AnydiffError: Dask is not installed, or the cluster does not answer.
    """
    if scheduler and workers is not None:
        raise AnydiffError(
            f"--workers is {workers}, but --scheduler names a cluster with its own; give one of the two."
        )
    if workers is not None and workers < 0:
        raise AnydiffError(f"--workers is {workers}; give how many processes, or 0 for this one.")
    if workers == 0:
        return SerialPool()
    require("distributed", "a benchmark with workers", "dask[distributed]", instead="pass --workers 0")
    return DaskPool(workers or min(len(os.sched_getaffinity(0)), _MOST_BY_DEFAULT), scheduler)


class DaskPool:
    """Dask workers, each a process with one thread, so that a number does not depend on how many there are."""

    def __init__(self, workers: int, scheduler: str) -> None:
        import dask
        import distributed

        distribution: Any = distributed  # which has no types
        dask.config.set({"distributed.scheduler.allowed-failures": DEATHS - 1, "distributed.worker.daemon": True})
        self._cluster: Any = None
        if scheduler:
            try:
                self._client = distribution.Client(scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise AnydiffError(
                    f"--scheduler is {scheduler!r}, but no Dask scheduler answers there ({error}); check the address."
                ) from error
        else:
            self._cluster = distribution.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=":0",
                silence_logs=50,
            )  # fmt: skip
            self._client = distribution.Client(self._cluster, set_as_default=False)
        self._loaded: dict[str, set[Hashable]] = {}

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        """See :class:`Pool`."""
        round_ = _Round(self._client, jobs, self._loaded)
        round_.feed()
        while round_.open:
            finished = round_.wait()
            round_.feed()
            if finished is not None:
                yield finished

    def close(self) -> None:
        """Let the workers go; one that is just being started again must not keep the run from ending."""
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(_PATIENCE * 4)
        if closing.is_alive() and self._cluster is not None:
            self._cluster.shutdown_on_close = False  # nor may it be waited for when this process ends
            for nanny in list(self._cluster.workers.values()):
                with contextlib.suppress(Exception):
                    nanny.process.process.kill()

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # whatever goes wrong here, the rows are stored
            self._client.close()
            if self._cluster is not None:
                self._cluster.close()


@dataclass
class _Round:
    """The jobs of one call of :meth:`DaskPool.run`."""

    client: Any
    jobs: Sequence[Job]
    loaded: dict[str, set[Hashable]]
    waiting: dict[Hashable, deque[Job]] = field(default_factory=dict)
    left: dict[Hashable, float] = field(default_factory=dict)
    flying: dict[Any, tuple[Job, str]] = field(default_factory=dict)
    finished: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    workers: list[str] = field(default_factory=list)
    looked: float = -1.0
    seen: float = field(default_factory=time.monotonic)
    worked: float = field(default_factory=time.monotonic)
    retried: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for job in self.jobs:
            self.waiting.setdefault(job.group, deque()).append(job)
            self.left[job.group] = self.left.get(job.group, 0.0) + job.cost

    @property
    def open(self) -> bool:
        """Whether there is anything left to wait for."""
        return bool(self.flying or self.waiting)

    def feed(self) -> None:
        """Give every worker its share."""
        if time.monotonic() > self.looked + 0.5:  # who is there may change: workers die, are started again, are added
            self.workers = list(self.client.scheduler_info(n_workers=-1)["workers"])
            self.looked = time.monotonic()
            self.seen = self.looked if self.workers else self.seen
        busy = {worker for _, worker in self.flying.values()}
        for worker in self.workers:
            if worker not in busy and (job := self._next(worker)) is not None:
                self._start(job, worker)

    def wait(self) -> tuple[Job, Any] | None:
        """The next finished job; None if there was none for a while, so that new workers are seen."""
        try:
            future = self.finished.get(timeout=_PATIENCE)
        except queue.Empty:
            if not self.workers and time.monotonic() > self.seen + _ALONE:
                raise AnydiffError(
                    f"no worker has been there for {_ALONE:.0f} s; what was finished is stored, so look at the cluster "
                    "(or at this machine's load) and run the same command again."
                ) from None
            # A word about the end of a job can be lost while its worker is started again.
            future = next((each for each in self.flying if each.done()), None)
            if future is None:
                return self._revive()
        if future not in self.flying:  # it was told twice, or given up
            return None
        self.worked = time.monotonic()
        job, worker = self.flying.pop(future)
        try:
            result = future.result()
            self.loaded.setdefault(worker, set()).add(job.group)
        except Exception as error:  # raised by the call, or KilledWorker: the worker died again and again
            result = _explained(error)
        future.release()
        return job, result

    def _revive(self) -> tuple[Job, Any] | None:
        """Send a job again that no worker has in hand though there are workers; give it up after so many times."""
        if any(self.client.processing().values()) or not self.workers:
            self.worked = time.monotonic()
        if not self.flying or time.monotonic() < self.worked + _IDLE:
            return None
        self.worked = time.monotonic()
        future = next(iter(self.flying))
        job, _ = self.flying.pop(future)
        future.release()
        self.retried[id(job)] = self.retried.get(id(job), 0) + 1
        if self.retried[id(job)] >= DEATHS:
            return job, AnydiffError(f"no worker took it up in {DEATHS} tries; run it with --workers 0 to see why.")
        self._start(job, self.workers[0])
        return None

    def _next(self, worker: str) -> Job | None:
        if not self.waiting:
            return None
        begun = self.loaded.get(worker, set())
        own = next((group for group in self.waiting if group in begun), None)
        others = [job.group for job, _ in self.flying.values()]
        group = min(self.waiting, key=lambda each: (others.count(each), -self.left[each])) if own is None else own
        jobs = self.waiting[group]
        job = jobs.popleft()
        self.left[group] -= job.cost
        if not jobs:
            del self.waiting[group]
        return job

    def _start(self, job: Job, worker: str) -> None:
        future = self.client.submit(
            _call, job.function, *job.arguments, workers=[worker], allow_other_workers=True, pure=False
        )
        self.flying[future] = (job, worker)
        future.add_done_callback(self.finished.put)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in the worker, on one thread."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    return function(*arguments)


def _explained(error: Exception) -> Exception:
    if type(error).__name__ == "KilledWorker":
        return AnydiffError(f"{DEATHS} workers died of it, one after the other; run it with --workers 0 to see why.")
    return error
