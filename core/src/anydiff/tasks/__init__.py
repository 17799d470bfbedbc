"""Tasks: what a benchmark measures, and the lock of what was published. ``anydiff-benchmarks`` runs them."""

from typing import TYPE_CHECKING

from anydiff.exports import on_demand
from anydiff.tasks.canonical import canonical, digest
from anydiff.tasks.task import Task, Tier, find_tasks, load_reference, load_task, restoration_metrics, task_entries

if TYPE_CHECKING:
    from anydiff.tasks.lock import check_lock, freeze, is_paired, lock_hash, task_metrics, write_lock
    from anydiff.tasks.measurement import measured_problem, with_hidden

_MEASURED = ("measured_problem", "with_hidden")
_LOCKED = ("check_lock", "freeze", "is_paired", "lock_hash", "task_metrics", "write_lock")

# Lazily, because a list of tasks needs no torch.
_LATER = dict.fromkeys(_LOCKED, "anydiff.tasks.lock") | dict.fromkeys(_MEASURED, "anydiff.tasks.measurement")
__getattr__ = on_demand(__name__, _LATER)

__all__ = [
    "Task",
    "Tier",
    "canonical",
    "check_lock",
    "digest",
    "find_tasks",
    "freeze",
    "is_paired",
    "load_reference",
    "load_task",
    "lock_hash",
    "measured_problem",
    "restoration_metrics",
    "task_entries",
    "task_metrics",
    "with_hidden",
    "write_lock",
]
