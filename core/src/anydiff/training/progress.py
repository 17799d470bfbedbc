"""The progress bar of a training, and what Ctrl-C does to it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Step, loss, rate and time left on a rich console; on a console that is no terminal, a line per log record.

    Args:
        console: where to draw; None draws nothing.
        steps: steps in all.
        done: steps already done.
    """

    def __init__(self, console: Console | None, steps: int, done: int) -> None:
        self.console = console
        self.steps = steps
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]} · {task.fields[rate]} samples/s · left"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("", total=steps, completed=done, loss="–", rate="–")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Show what was logged at ``step``."""
        loss, rate = f"{values['loss']:.4g}", f"{values['samples_per_second']:.0f}"
        if self._bar is not None:
            self._bar.update(self._task, loss=loss, rate=rate)
        elif self.console is not None:
            left = (self.steps - step) * values["seconds_per_step"]
            self.console.print(
                f"step {step}/{self.steps} · loss {loss} · {rate} samples/s · {_duration(left)} left", highlight=False
            )


class Interruption:
    """Turns the first Ctrl-C (SIGINT) or SIGTERM into a wish to stop after the running step; a second acts at once.

    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
