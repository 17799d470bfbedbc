"""Kills trainings with SIGKILL and resumes them: ``python killer.py FOLDER``; fails if a run is ever unreadable.

One process imports torch and forks a child per training, so that twenty kills cost seconds. Nothing here
starts a thread before a fork.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import lightning_fabric  # noqa: F401  (imported once here, not in every child)
import torch
from toy import train

from anydiff.training import RunFolder, TrainingEvents, weights_hash


class KillAt(TrainingEvents):
    """SIGKILL this process when ``step`` is logged."""

    def __init__(self, step: int) -> None:
        self.step = step

    def training_step(self, folder, step, values):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def child(folder: Path, kill_after: float | None = None, **options) -> int:
    """Train in a forked child, killed after ``kill_after`` seconds; returns its wait status."""
    process = os.fork()
    if process == 0:
        try:
            train(folder, **options)
        except BaseException as error:  # anything at all must fail the test, and a child must never return
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]


def hashes(folder: Path) -> tuple[str, str, str]:
    """Hashes of the saved weights, of the network and of its average, and a full read of the run."""
    run = RunFolder.open(folder)
    state = run.load_state()
    assert state is not None
    run.records()
    return weights_hash(run.load_weights()[0]), *(
        weights_hash(each) for each in (state["modules"]["network"], state["averages"]["network"]["tensors"])
    )


def one_kill(folder: Path) -> None:
    """200 steps, against 100 saved, killed at 150, and resumed."""
    settings = {"steps": 200, "checkpoint_every": 100, "log_every": 1}
    assert child(folder / "whole", **settings) == 0
    assert child(folder / "parts", **settings, options={"callbacks": [KillAt(150)]}) == signal.SIGKILL
    state = RunFolder.open(folder / "parts").load_state()
    assert state is not None
    assert state["step"] == 100
    assert child(folder / "parts", **settings, resume=True) == 0
    assert hashes(folder / "whole") == hashes(folder / "parts")
    losses = [[r["loss"] for r in RunFolder.open(folder / name).records()] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def many_kills(folder: Path, count: int) -> None:
    """Checkpoints at every step, killed at random moments: always readable, never stepping back, same end."""
    run, before, generator = folder / "many", -1, random.Random(0)
    steps = {"checkpoint_every": 1, "log_every": 1}
    begun = time.perf_counter()
    assert child(folder / "short", steps=1, **steps) == 0
    latest = max(0.4, 2 * (time.perf_counter() - begun))  # on a busy machine the first checkpoint comes late
    for kill in range(count):
        status = child(run, generator.uniform(0.0, latest), steps=100_000, **steps, resume=True)
        assert status == signal.SIGKILL, f"kill {kill}: status {status}"
        if not (run / "config.yaml").exists():
            continue  # killed before anything was written
        opened = RunFolder.open(run)
        state = opened.load_state()
        if state is None:
            continue  # killed before the first checkpoint
        if before < 0 and not opened.weights_path.exists():
            continue  # killed between the two files of the first checkpoint
        opened.records()
        assert int(opened.load_weights()[1]["step"]) in (state["step"], state["step"] + 1)
        assert state["step"] >= before
        before = state["step"]
    assert before > 0, "every kill came before the first checkpoint"
    last = before + 5
    assert child(run, steps=last, **steps, resume=True) == 0
    assert child(folder / "calm", steps=last, checkpoint_every=last, log_every=1) == 0
    assert hashes(run) == hashes(folder / "calm")
    print(f"killed {count} times, last checkpoint {before}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    one_kill(Path(sys.argv[1]))
    many_kills(Path(sys.argv[1]), 20)
