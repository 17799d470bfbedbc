"""On what a training runs: devices, strategy and precision, under Lightning Fabric."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from anydiff.errors import AnydiffError, natural_number
from anydiff.training.settings import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STRATEGIES = ("auto", "ddp", "ddp_spawn", "ddp_fork")
_START = {"ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork"}


@dataclass(frozen=True)
class Hardware:
    """On what a training runs, which does not change what is learned.

    Attributes:
        devices: number of devices, or ``auto`` for all accelerators (1 on the CPU); under ``torchrun``, its count.
        accelerator: ``cpu``, ``cuda``, or ``auto`` (cuda where there is one).
        strategy: ``auto``, ``ddp`` (starts the running script once per device), ``ddp_spawn`` or ``ddp_fork``.
    """

    devices: int | str = 1
    accelerator: str = "auto"
    strategy: str = "auto"


def make_fabric(settings: TrainingSettings, hardware: Hardware, in_parts: bool) -> Fabric:
    """The devices of a training.

    Args:
        settings: gives the precision.
        hardware: devices, accelerator and strategy.
        in_parts: whether some steps leave parameters out (a training method that moves its groups one after another).

    Raises:
        AnydiffError: devices, strategy or precision that are not to be had here.
    """
    # Imported here: it takes a second, and only training needs it.
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    devices, accelerator, strategy = hardware.devices, hardware.accelerator, hardware.strategy
    if strategy not in STRATEGIES:
        raise AnydiffError(f"strategy is {strategy!r}, but must be one of {', '.join(STRATEGIES)}.")
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    nodes = 1
    count = max(torch.cuda.device_count(), 1) if accelerator == "cuda" else 1
    count = count if devices == "auto" else natural_number("devices", devices)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        count = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // count
    if strategy == "auto" and count * nodes > 1:
        strategy = "ddp"
    if settings.precision == "16-mixed" and accelerator == "cpu":
        raise AnydiffError(
            "precision is '16-mixed', which needs an accelerator; use 'bf16-mixed' or '32-true' on the CPU."
        )
    how: Any = strategy
    if in_parts and strategy in _START:
        how = DDPStrategy(start_method=_START[strategy], find_unused_parameters=True)  # type: ignore[arg-type]
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)  # it announces every choice that was made explicitly above
    try:
        return Fabric(
            accelerator=accelerator, devices=count, num_nodes=nodes, strategy=how, precision=settings.precision
        )
    except (RuntimeError, ValueError, TypeError) as error:  # how Fabric reports devices that are not there
        first = str(error).splitlines()[0]
        raise AnydiffError(f"cannot train on {count} {accelerator!r} device(s): {first}") from error
    finally:
        logger.setLevel(level)


@contextmanager
def own_random_state() -> Iterator[None]:
    """Give the caller's global random state back afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
