"""Where jobs run: in this process, or on Dask workers (of this machine, or of any cluster by its address).

A job belongs to a group (a task with a model). Workers keep what they loaded for a group, so a worker is given jobs of
its own groups first. Each has one job at a time, and its result is fetched before the next is sent: when a worker dies,
that one job is lost and run again elsewhere, and no finished one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from anydiff.errors import AnydiffError, show_warning
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

    def stop(self) -> None:
        """Begin no further job of this run; those at work end, and have their results."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


class SerialPool:
    """This process, one job after the other."""

    def __init__(self) -> None:
        self._stopped = False

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        """See :class:`Pool`."""
        self._stopped = False
        for job in jobs:
            if self._stopped:
                return
            try:
                result: Any = job.function(*job.arguments)
            except Exception as error:
                result = error
            yield job, result

    def stop(self) -> None:
        """See :class:`Pool`."""
        self._stopped = True

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
    """Dask workers, each a process with one thread, so that a number does not depend on how many there are.

    A job is bound to its worker and Dask runs none a second time: where a worker is lost, the job that it had is sent
    to another one, until :data:`DEATHS` workers died of it. (Dask's own second try stays with the address of the
    worker that died, and waits for ever.)
    """

    def __init__(self, workers: int, scheduler: str) -> None:
        import dask
        import distributed

        self._distributed: Any = distributed  # which has no types
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.worker.daemon": True})
        self._cluster: Any = None
        if scheduler:
            try:
                self._client = self._distributed.Client(scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise AnydiffError(
                    f"--scheduler is {scheduler!r}, but no Dask scheduler answers there ({error}); check the address."
                ) from error
        else:
            self._cluster = self._distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=":0",
                silence_logs=50,
            )  # fmt: skip
            self._client = self._distributed.Client(self._cluster, set_as_default=False)
        self._loaded: dict[str, set[Hashable]] = {}
        self._stopped = False

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        """See :class:`Pool`."""
        waiting = _Waiting(jobs, self._loaded)
        sent: dict[Any, _Sent] = {}
        lost: list[_Sent] = []
        self._stopped = False
        moved = time.monotonic()
        while sent or lost or (waiting and not self._stopped):
            workers = list(self._client.scheduler_info(n_workers=-1)["workers"])
            self._feed(workers, waiting, sent, lost)
            future = self._finished(sent)
            if future is not None or not sent or any(self._client.processing().values()):
                moved = time.monotonic() if workers else moved
            idle = bool(workers) and time.monotonic() > moved + _IDLE
            if not workers and time.monotonic() > moved + _ALONE:
                raise AnydiffError(
                    f"no worker has been there for {_ALONE:.0f} s; what was finished is stored, so look at the cluster "
                    "(or at this machine's load) and run the same command again."
                )
            for each in [future] if future is not None else self._lost(sent, workers, idle):
                done = sent.pop(each)
                result = self._result(each, done)
                if isinstance(result, _Lost) and done.tries < DEATHS:
                    lost.append(done)
                elif isinstance(result, _Lost):
                    yield (
                        done.job,
                        AnydiffError(
                            f"{DEATHS} workers died of it, one after the other; run it with --workers 0 to see why."
                        ),
                    )
                else:
                    yield done.job, result

    def stop(self) -> None:
        """See :class:`Pool`."""
        self._stopped = True

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

    def _feed(self, workers: Sequence[str], waiting: _Waiting, sent: dict[Any, _Sent], lost: list[_Sent]) -> None:
        """Give every idle worker a job; who is there may change: workers die, are started again, are added."""
        busy = {each.worker for each in sent.values()}
        for worker in workers:
            if worker in busy:
                continue
            if lost:  # what was begun has its result, in a run that was stopped too
                order = lost.pop(0)
                self._send(_Sent(order.job, worker, order.tries + 1), sent)
            elif waiting and not self._stopped:
                self._send(_Sent(waiting.next_for(worker, [each.job.group for each in sent.values()]), worker), sent)

    def _send(self, order: _Sent, sent: dict[Any, _Sent]) -> None:
        job = order.job
        future = self._client.submit(_call, job.function, *job.arguments, workers=[order.worker], pure=False)
        sent[future] = order

    def _lost(self, sent: Mapping[Any, _Sent], workers: Sequence[str], idle: bool) -> list[Any]:
        """The orders whose worker is gone; all of them where workers have been ``idle`` in spite of them."""
        return [each for each, order in sent.items() if idle or order.worker not in workers]

    def _finished(self, sent: Mapping[Any, _Sent]) -> Any:
        """The next finished job; None if there was none for a while, so that new workers are seen."""
        try:
            # Made anew for each, so that no word of an end is waited for which was lost while a worker died.
            return next(self._distributed.as_completed(list(sent), loop=self._client.loop, timeout=_PATIENCE))
        except TimeoutError:
            return None
        except StopIteration:  # nothing is sent, since nobody is there
            time.sleep(_PATIENCE)
            return None

    def _result(self, future: Any, done: _Sent) -> Any:
        """What the call returned or raised; :class:`_Lost` where its worker died, with the result if it had one."""
        killed = self._distributed.scheduler.KilledWorker
        try:
            if future.status == "error":
                error = future.exception(timeout=_IDLE)
                return _Lost() if isinstance(error, killed) else error
            if future.status != "finished":
                return _Lost()
            result = future.result(timeout=_IDLE)
        except TimeoutError:  # it was finished, and its worker died before it was fetched
            return _Lost()
        finally:
            future.release()
        self._loaded.setdefault(done.worker, set()).add(done.job.group)
        return result


class _Lost:
    """In place of a result: the worker died."""


@dataclass(frozen=True)
class _Sent:
    """A job that a worker was given; ``tries`` says how often by now."""

    job: Job
    worker: str
    tries: int = 1


class _Waiting:
    """The jobs that nobody was given yet, by group."""

    def __init__(self, jobs: Sequence[Job], loaded: Mapping[str, set[Hashable]]) -> None:
        self._loaded = loaded
        self._groups: dict[Hashable, deque[Job]] = {}
        for job in jobs:
            self._groups.setdefault(job.group, deque()).append(job)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def next_for(self, worker: str, others: Sequence[Hashable]) -> Job:
        """A job of the shortest group that ``worker`` has loaded, else of the longest that fewest ``others`` have."""
        begun = self._loaded.get(worker, set())
        own = [group for group in self._groups if group in begun]
        left = {group: sum(job.cost for job in jobs) for group, jobs in self._groups.items()}
        # Of its own the shortest, so that a run which is stopped has as many whole groups as possible.
        group = min(own, key=left.__getitem__) if own else min(left, key=lambda each: (others.count(each), -left[each]))
        jobs = self._groups[group]
        job = jobs.popleft()
        if not jobs:
            del self._groups[group]
        return job


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in the worker, on one thread; warnings are sentences, as in the process that waits for it."""
    import torch

    warnings.showwarning = show_warning

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    return function(*arguments)
