"""The training loop, written once for one device or many (Lightning Fabric).

A step is: gradients of the mean loss over the global batch (accumulated over micro batches, averaged over devices),
clipping, AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101), averaging of the weights. Everything random is keyed by
(seed, position) or (seed, step), so a run resumed from any checkpoint is bit for bit the uninterrupted one on the CPU.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anydiff.data.reading import reading
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError, natural_number
from anydiff.objectives import Objective
from anydiff.training.diagnose import first_bad_tensor
from anydiff.training.ema import EMA
from anydiff.training.events import TrainingEvents
from anydiff.training.examples import Examples, ExampleStream, derived_seed
from anydiff.training.progress import Interruption, ProgressBar
from anydiff.training.run import RunFolder
from anydiff.training.settings import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from rich.console import Console

STRATEGIES = ("auto", "ddp", "ddp_spawn", "ddp_fork")


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        step: optimizer steps done.
        loss: mean loss since the last line of the log (NaN if no step was left to do).
        seconds: time spent in steps, over all resumptions.
    """

    step: int
    loss: float
    seconds: float


def fit(
    denoiser: NetworkDenoiser,
    objective: Objective,
    dataset: Any,
    settings: TrainingSettings,
    run: RunFolder,
    *,
    devices: int | str = 1,
    resume: bool = False,
    callbacks: Sequence[TrainingEvents] = (),
    console: Console | None = None,
    accelerator: str = "auto",
    strategy: str = "auto",
) -> TrainingResult:
    """Train ``denoiser`` and leave the averaged weights in ``run``.

    Args:
        denoiser: trained in place; the averaged weights are in the run folder only.
        objective: loss per example.
        dataset: random access: ``len``, ``.name``, ``.hash``, ``.spec``, ``.conditions``, ``.batch(indices)``.
        settings: budget and optimiser; the batch size is that of all devices together.
        run: the folder, from :meth:`RunFolder.create`.
        devices: number of devices, or ``auto`` for all accelerators (1 on the CPU); under ``torchrun``, its count.
        resume: continue from the run's last checkpoint (from the start if it has none).
        callbacks: listeners.
        console: where to draw progress; None for silence.
        accelerator: ``cpu``, ``cuda``, or ``auto`` (cuda where there is one).
        strategy: ``auto``, ``ddp`` (starts the running script once per device), ``ddp_spawn`` or ``ddp_fork``.

    Raises:
        AnydiffError: settings, data and devices that do not fit, a run begun with others, or a folder that cannot be
            written.
        FileFormatError: the checkpoint is unreadable.
        NonFiniteError: a loss or gradient is NaN or infinite; names the first bad tensor. No checkpoint is written.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once a checkpoint has been written.
    """

    def train(fabric: Fabric) -> TrainingResult:
        return _Training(fabric, denoiser, objective, dataset, settings, run, callbacks).train(resume, console)

    try:
        result: TrainingResult = _fabric(settings, devices, accelerator, strategy).launch(train)
    finally:
        run.release()
    return result


def _fabric(settings: TrainingSettings, devices: int | str, accelerator: str, strategy: str) -> Fabric:
    # Imported here: it takes a second, and only training needs it.
    from lightning_fabric import Fabric

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
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)  # it announces every choice that was made explicitly above
    try:
        return Fabric(
            accelerator=accelerator, devices=count, num_nodes=nodes, strategy=strategy, precision=settings.precision
        )
    except (RuntimeError, ValueError, TypeError) as error:  # how Fabric reports devices that are not there
        first = str(error).splitlines()[0]
        raise AnydiffError(f"cannot train on {count} {accelerator!r} device(s): {first}") from error
    finally:
        logger.setLevel(level)


class _Loss(nn.Module):
    """The objective as a module, so that the wrappers of precision and data parallelism see one forward pass."""

    def __init__(self, denoiser: NetworkDenoiser, objective: Objective) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.objective = objective

    def forward(self, examples: Examples) -> Tensor:
        """The loss of each example [B], a mean over its noise levels."""
        clean, condition = examples.clean, examples.condition
        levels = len(examples.uniform) // len(clean)
        if levels > 1:
            weights = {name: condition[name] for name in ("loss_mask",) if name in condition}
            given = {name: value for name, value in condition.items() if name not in weights}
            encoded = {**self.denoiser.encode_condition(**given), **weights}
            condition = {name: value.repeat_interleave(levels, dim=0) for name, value in encoded.items()}
            clean = clean.repeat_interleave(levels, dim=0)
        loss = self.objective(self.denoiser, clean, examples.noise, examples.uniform, **condition)
        return loss if levels == 1 else loss.reshape(-1, levels).mean(dim=1)


class _Training:
    """One call of :func:`fit` on one rank."""

    def __init__(
        self,
        fabric: Fabric,
        denoiser: NetworkDenoiser,
        objective: Objective,
        dataset: Any,
        settings: TrainingSettings,
        run: RunFolder,
        callbacks: Sequence[TrainingEvents],
    ) -> None:
        if settings.batch_size % fabric.world_size:
            raise AnydiffError(
                f"batch_size is {settings.batch_size}, but must be a multiple of the {fabric.world_size} devices."
            )
        self.fabric, self.settings, self.run, self.dataset = fabric, settings, run, dataset
        self.denoiser = denoiser.train()
        self.stream = ExampleStream(dataset, denoiser.path, settings, callbacks)
        self.events = callbacks if fabric.is_global_zero else ()
        self.loss = _Loss(denoiser, objective)
        self.model, self.optimizer = fabric.setup(self.loss, _optimizer(denoiser, settings))
        self.ema = EMA(denoiser.network, settings.ema_decay)
        self.step = 0
        self.seconds = 0.0
        # Sum of losses and number of steps since the last line of the log.
        self.loss_sum, self.loss_count = 0.0, 0
        self.saved = -1

    def train(self, resume: bool, console: Console | None) -> TrainingResult:
        """Run the steps that are left."""
        if resume:
            self._restore()
            if self.step == self.settings.steps and not self.run.weights_path.exists():
                self._save()  # killed between the two files of a first checkpoint that was the last
        if self.fabric.is_global_zero:
            self.run.rewind_log(self.step)
        for listener in self.events:
            listener.training_started(self.run.path, self.denoiser, self.step)
        console = console if self.fabric.is_global_zero else None
        loss = math.nan
        with ProgressBar(console, self.settings.steps, self.step) as bar, Interruption() as stop, _own_random_state():
            self._mark = (time.perf_counter(), self.step)
            while self.step < self.settings.steps:
                stopping, values = self._advance(stop)
                bar.advance()
                loss = self.loss_sum / self.loss_count
                if self.step % self.settings.log_every == 0 or self.step == self.settings.steps:
                    self._report(values, bar)
                if self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps or stopping:
                    self._save()
                if stopping and self.step < self.settings.steps:
                    raise KeyboardInterrupt(
                        f"stopped at step {self.step} of {self.settings.steps} and saved in {str(self.run.path)!r}; "
                        "resume to continue from here."
                    )
        return TrainingResult(self.step, loss, self.seconds)

    def _advance(self, stop: Interruption) -> tuple[bool, dict[str, float]]:
        """One optimizer step. Returns whether some rank was asked to stop, and what to log."""
        begun = time.perf_counter()
        self._seed_network()
        rate = self.settings.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batches = self._positions()
        loss_sum = 0.0
        for number, positions in enumerate(batches):
            examples = self.stream.examples(self.step, positions).to(self.fabric.device)
            with self.fabric.no_backward_sync(self.model, enabled=number + 1 < len(batches)):
                # Ranks are averaged, so the world size makes this the mean over the global batch.
                loss = self.model(examples).sum() * (self.fabric.world_size / self.settings.batch_size)
                self.fabric.backward(loss)
            loss_sum += loss.item()
        loss_mean, stopping = self._agree(loss_sum, stop.requested)
        limit = self.settings.gradient_clip or math.inf
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        gradient_norm = float(norm) if norm is not None else math.nan
        # With 16-mixed an infinite gradient is how the loss scale is found; the scaler skips that step.
        if not math.isfinite(loss_mean) or (not math.isfinite(gradient_norm) and self.settings.precision != "16-mixed"):
            raise self._non_finite()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        self.step += 1
        self.loss_sum += loss_mean
        self.loss_count += 1
        self.seconds += time.perf_counter() - begun
        return stopping, {"gradient_norm": gradient_norm, "learning_rate": rate}

    def _positions(self) -> list[range]:
        """The positions of this rank's share of the next global batch, in micro batches."""
        share = self.settings.batch_size // self.fabric.world_size
        first = self.step * self.settings.batch_size + self.fabric.global_rank * share
        size = min(self.settings.micro_batch_size or share, share)
        return [range(start, min(start + size, first + share)) for start in range(first, first + share, size)]

    def _seed_network(self) -> None:
        """Key the network's own randomness (dropout) by step and rank: there is no state to save, and none to lose."""
        seed = derived_seed(self.settings.seed, f"network/{self.step}/{self.fabric.global_rank}")
        # Not torch.manual_seed, which without CUDA queues a call with a stack trace every time.
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _agree(self, loss: float, stopping: bool) -> tuple[float, bool]:
        """Mean loss over the ranks, and whether any of them was asked to stop."""
        if self.fabric.world_size == 1:
            return loss, stopping
        values = torch.tensor([loss, float(stopping)], dtype=torch.float64, device=self.fabric.device)
        total = self.fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(total, Tensor)
        return float(total[0]) / self.fabric.world_size, bool(total[1] > 0)

    def _report(self, values: dict[str, float], bar: ProgressBar) -> None:
        now = time.perf_counter()
        per_step = (now - self._mark[0]) / max(self.step - self._mark[1], 1)
        self._mark = (now, self.step)
        values = {
            "loss": self.loss_sum / self.loss_count,
            **values,
            "samples_per_second": self.settings.batch_size / per_step,
            "seconds_per_step": per_step,
            "seconds": self.seconds,
        }
        self.loss_sum, self.loss_count = 0.0, 0
        if self.fabric.is_global_zero:
            self.run.log({"step": self.step, **values})
            bar.report(self.step, values)
        for listener in self.events:
            listener.training_step(self.run.path, self.step, values)

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            facts = {"step": str(self.step), "dataset": str(self.dataset.name), "dataset_hash": str(self.dataset.hash)}
            # Weights without a state cannot be resumed, so the first state comes before them; a kill in between
            # leaves a run that goes on.
            first = not self.run.has_state
            if first:
                self.run.save_state(self._state())
            self.run.save_weights(self.ema.tensors, **facts)
            if not first:
                self.run.save_state(self._state())
        self.fabric.barrier()
        for listener in self.events:
            listener.checkpoint_saved(self.run.path, self.step)
        self.saved = self.step

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "settings": self.settings.model_dump(mode="json"),
            "dataset": {"name": str(self.dataset.name), "hash": str(self.dataset.hash)},
            "network": self.denoiser.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "loss": {"sum": self.loss_sum, "count": self.loss_count},
            "seconds": self.seconds,
        }

    def _restore(self) -> None:
        state = self.run.load_state()
        if state is None:
            return
        advice = "restore it, or train into a new folder"
        with reading(self.run.path / "state.pt", "the state of a training", advice):
            self._apply(state)

    def _apply(self, state: dict[str, Any]) -> None:
        """Go on from a state that was saved."""
        self.settings.check_resume(state["settings"])
        found = str(state["dataset"]["hash"])
        if found != str(self.dataset.hash):
            raise AnydiffError(
                f"the data set {self.dataset.name!r} has the hash {str(self.dataset.hash)[:12]}, but the run was begun "
                f"with {found[:12]}; restore the data to resume, or train into a new folder."
            )
        try:
            self.denoiser.network.load_state_dict(state["network"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:  # another network than the one that was saved
            reason = " ".join(str(error).split())[:200]
            raise FileFormatError(
                f"the checkpoint in {str(self.run.path)!r} belongs to another network ({reason}); "
                "restore the recipe or train into a new folder."
            ) from error
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.saved = self.step
        self.loss_sum, self.loss_count = state["loss"]["sum"], state["loss"]["count"]

    def _non_finite(self) -> NonFiniteError:
        """Run the failing step's micro batches once more, without other ranks, to name the first bad tensor."""
        self._seed_network()
        what = None
        with self.fabric.autocast():
            for positions in self._positions():
                examples = self.stream.examples(self.step, positions).to(self.fabric.device)
                what = first_bad_tensor(self.denoiser, examples, self.loss)
                if what:
                    break
        where = "the gradient" if self.fabric.world_size == 1 else "a tensor on another device"
        kept = f"the last checkpoint is of step {self.saved}" if self.saved >= 0 else "no checkpoint was written since"
        return NonFiniteError(
            f"training stopped in step {self.step + 1}: {what or where} is NaN or infinite; check the data, lower the "
            f"learning rate or use precision '32-true' ({kept})."
        )


def _optimizer(denoiser: NetworkDenoiser, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW whose decay spares vectors: biases, norms, null embeddings."""
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # The loss scaler of 16-mixed and the fused step cannot both unscale the gradients that are clipped in between.
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=settings.betas,
        fused=settings.precision != "16-mixed",
    )


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Give the caller's global random state back afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
