"""The training loop, written once for one device or many (Lightning Fabric).

A step is, for each entry of the method's order: gradients of the mean losses over the global batch (accumulated over
micro batches, averaged over devices), clipping and the optimisers of its groups; then the averages of the weights.
Everything random is keyed by (seed, position) or (seed, step), so a run resumed from any checkpoint is bit for bit the
uninterrupted one on the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError, NonFiniteError
from anydiff.states import derived_seed
from anydiff.training.batches import Batches
from anydiff.training.checkpoint import Checkpoint, Progress
from anydiff.training.companions import frozen_modules
from anydiff.training.coupled import two_passes
from anydiff.training.devices import Hardware, make_fabric, own_random_state
from anydiff.training.diagnose import first_bad_tensor
from anydiff.training.ema import EMA
from anydiff.training.events import TrainingEvents
from anydiff.training.examples import Examples, ExampleStream, Sealed
from anydiff.training.method import NETWORK, Losses, TrainingMethod, checked_groups, checked_losses
from anydiff.training.progress import Interruption, ProgressBar
from anydiff.training.run import RunFolder
from anydiff.training.settings import TrainingSettings
from anydiff.training.weights import weights_hash

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from rich.console import Console

ONE_DEVICE = Hardware()


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        step: optimizer steps done.
        loss: mean loss of the network since the last line of the log (NaN if no step was left to do).
        seconds: time spent in steps, over all resumptions.
    """

    step: int
    loss: float
    seconds: float


def fit(
    method: TrainingMethod,
    dataset: Any,
    settings: TrainingSettings,
    run: RunFolder,
    *,
    hardware: Hardware = ONE_DEVICE,
    resume: bool = False,
    callbacks: Sequence[TrainingEvents] = (),
    console: Console | None = None,
) -> TrainingResult:
    """Train ``method.denoiser`` and leave the averaged weights in ``run``.

    Args:
        method: what a step is; ``ObjectiveMethod(denoiser, objective)`` where an objective is minimised and no more.
            Its modules are trained in place; the averaged weights are in the run folder only.
        dataset: random access: ``len``, ``.name``, ``.hash``, ``.spec``, ``.conditions``, ``.batch(indices)``.
        settings: budget and optimiser; the batch size is that of all devices together.
        run: the folder, from :meth:`RunFolder.create`.
        hardware: devices, accelerator and strategy; one device by default, an accelerator where there is one.
        resume: continue from the run's last checkpoint (from the start if it has none).
        callbacks: listeners.
        console: where to draw progress; None for silence.

    Raises:
        AnydiffError: settings, data and devices that do not fit, a method whose groups overlap or miss parameters, a
            run begun with others, or a folder that cannot be written.
        FileFormatError: the checkpoint is unreadable.
        NonFiniteError: a loss or gradient is NaN or infinite; names the first bad tensor. No checkpoint is written.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once a checkpoint has been written.
    """

    def train(fabric: Fabric) -> tuple[int, float, float]:
        # A tuple: processes that were spawned or forked cannot hand over a frozen object.
        return astuple(_Training(fabric, method, dataset, settings, run, callbacks).train(resume, console))

    try:
        in_parts = len(method.order()) > 1
        ended = make_fabric(settings, hardware, in_parts).launch(train)
    finally:
        run.release()
    return TrainingResult(*ended)


class _Step(nn.Module):
    """A method's step as a module, so that the wrappers of precision and data parallelism see one forward pass."""

    def __init__(self, method: TrainingMethod) -> None:
        super().__init__()
        self.denoiser = method.denoiser
        self.trained = nn.ModuleDict(method.modules())
        self.objective = method.objective  # it may be a module
        self.method = method

    def forward(self, sealed: Sealed, progress: float, groups: Sequence[str]) -> Losses:
        examples = sealed.examples
        losses = self.method.step(examples, progress, groups)
        return checked_losses(losses, groups, len(examples.clean), type(self.method).__name__)


class _Training:
    """One call of :func:`fit` on one rank."""

    def __init__(
        self,
        fabric: Fabric,
        method: TrainingMethod,
        dataset: Any,
        settings: TrainingSettings,
        run: RunFolder,
        callbacks: Sequence[TrainingEvents],
    ) -> None:
        if settings.batch_size % fabric.world_size:
            raise AnydiffError(
                f"batch_size is {settings.batch_size}, but must be a multiple of the {fabric.world_size} devices."
            )
        self.fabric, self.settings, self.run, self.method = fabric, settings, run, method
        self.events = callbacks if fabric.is_global_zero else ()
        self.groups = checked_groups(method)
        self.order = [tuple(together) for together in method.order()]
        self.main = NETWORK if NETWORK in self.groups else next(iter(self.groups))
        shape = method.objective.uniform_shape(dataset.spec)
        stream = ExampleStream(dataset, method.denoiser.path, settings, callbacks, shape)
        self.batches = Batches(stream, settings, fabric.global_rank, fabric.world_size)
        method.denoiser.train()
        self.unwrapped = _Step(method)
        self.unwrapped.trained.train()
        self.hows = {group: method.optimiser(group, settings) for group in self.groups}
        made = [self.hows[group].make(parameters, settings.precision) for group, parameters in self.groups.items()]
        self.model, *optimisers = fabric.setup(self.unwrapped, *made)
        self.optimisers = dict(zip(self.groups, optimisers, strict=True))
        frozen = frozen_modules(method)
        for module in (*frozen.values(), *(each.module for each in method.averages().values())):
            fabric.to_device(fabric.strategy.precision.convert_module(module.eval().requires_grad_(False)))
        self.averages = self._averages()
        self.checkpoint = Checkpoint(
            run, dataset, settings, method.modules(), self.averages, self.optimisers, fabric.strategy.precision,
            {name: weights_hash(module.state_dict()) for name, module in frozen.items()}, method.uses_progress,
        )  # fmt: skip
        self.done = Progress()
        self.saved = -1

    def _averages(self) -> dict[str, EMA]:
        """What the training leaves, and the companions that follow a module."""
        modules, followers = self.method.modules(), self.method.averages()
        averages = {NETWORK: EMA(self.method.denoiser.network, self.settings.ema_decay)}
        for name, average in followers.items():
            if name == NETWORK or average.of not in modules:
                raise AnydiffError(
                    f"the average {name!r} of the training method {type(self.method).__name__} follows {average.of!r}, "
                    f"but it must have a name of its own, and follow one of {', '.join(modules)}."
                )
            averages[name] = EMA(modules[average.of], average.decay)
            averages[name].copy_to(average.module)
        return averages

    def train(self, resume: bool, console: Console | None) -> TrainingResult:
        """Run the steps that are left."""
        steps = self.settings.steps
        if resume:
            self._restore()
            if self.done.step == steps and not self.run.weights_path.exists():
                self._save()  # killed between the two files of a first checkpoint that was the last
        if self.fabric.is_global_zero:
            self.run.rewind_log(self.done.step)
        for listener in self.events:
            listener.training_started(self.run.path, self.method.denoiser, self.done.step)
        console = console if self.fabric.is_global_zero else None
        loss = math.nan
        with (
            ProgressBar(console, steps, self.done.step) as bar,
            Interruption() as stop,
            own_random_state(),
            self.batches.ahead(self.done.step),
        ):
            self._mark = (time.perf_counter(), self.done.step)
            while self.done.step < steps:
                stopping, values = self._advance(stop)
                bar.advance()
                loss = self._mean_losses()["loss"]
                step = self.done.step
                if step % self.settings.log_every == 0 or step == steps:
                    self._report(values, bar)
                if step % self.settings.checkpoint_every == 0 or step == steps or stopping:
                    self._save()
                if stopping and step < steps:
                    raise KeyboardInterrupt(
                        f"stopped at step {step} of {steps} and saved in {str(self.run.path)!r}; "
                        "resume to continue from here."
                    )
        return TrainingResult(self.done.step, loss, self.done.seconds)

    def _advance(self, stop: Interruption) -> tuple[bool, dict[str, float]]:
        """One step of every group. Returns whether some rank was asked to stop, and what to log."""
        begun = time.perf_counter()
        self._seed_network(0)
        batches: Any = self.batches.of(self.done.step, self.fabric.device)
        if len(self.order) > 1:
            batches = list(batches)  # each entry of the order sees the same examples
        stopping, values = False, {}
        for number, groups in enumerate(self.order):
            if number:
                self._seed_network(number)
            asked, found = self._move(groups, number, batches, stop)
            stopping = stopping or asked
            values.update(found)
        for average in self.averages.values():
            average.update()
        for name, follower in self.method.averages().items():
            self.averages[name].copy_to(follower.module)
        self.done.step += 1
        self.done.count += 1
        self.done.seconds += time.perf_counter() - begun
        return stopping, values

    def _move(
        self, groups: tuple[str, ...], number: int, batches: Iterable[Examples], stop: Interruption
    ) -> tuple[bool, dict[str, float]]:
        """Move ``groups``, entry ``number`` of the order. Returns as :meth:`_advance`."""
        rates = {group: self.hows[group].rate(self.done.step, self.settings.steps) for group in groups}
        for group, rate in rates.items():
            for each in self.optimisers[group].param_groups:
                each["lr"] = rate
        sums = self._gradients(groups, number, batches)
        norms = self._clipped(groups)
        # The only transfer to the host of this entry.
        *found, asked = self._agree(torch.stack([*sums.values()]), norms, stop.requested)
        losses, lengths = dict(zip(sums, found, strict=False)), found[len(sums) :]
        # With 16-mixed an infinite gradient is how the loss scale is found; the scaler skips that step.
        checked = [*losses.values(), *(lengths if self.settings.precision != "16-mixed" else ())]
        if not all(map(math.isfinite, checked)):
            raise self._non_finite(groups, number)
        for group in groups:
            self.optimisers[group].step()
            self.optimisers[group].zero_grad()
        for name, value in losses.items():
            self.done.sums[name] = self.done.sums.get(name, 0.0) + value
        values = {self._named("gradient_norm", group): norm for group, norm in zip(groups, lengths, strict=True)}
        return bool(asked), {**values, **{self._named("learning_rate", group): rate for group, rate in rates.items()}}

    def _gradients(self, groups: tuple[str, ...], entry: int, batches: Iterable[Examples]) -> dict[str, Tensor]:
        """Add up the gradients of the micro batches. Returns this rank's share of the mean losses by ``group/term``."""
        # Ranks are averaged, so the world size makes this the mean over the global batch.
        scale = self.fabric.world_size / self.settings.batch_size
        progress = self.done.step / self.settings.steps
        count = self.batches.count
        sums: dict[str, Tensor] = {}
        with self._constant_but(groups):
            for number, examples in enumerate(self._passes(groups, entry, batches)):
                with self.fabric.no_backward_sync(self.model, enabled=number + 1 < count):
                    losses: Losses = self.model(Sealed(examples), progress, groups)
                    means = {
                        f"{group}/{term}": loss.sum() * scale
                        for group in groups
                        for term, loss in losses[group].items()
                    }
                    self.fabric.backward(_total(means))
                for name, value in means.items():
                    value = value.detach().double()
                    sums[name] = sums[name] + value if name in sums else value
        return sums

    def _passes(self, groups: tuple[str, ...], entry: int, batches: Iterable[Examples]) -> Iterable[Examples]:
        """The micro batches; where their examples are coupled, after a pass that knows all of them."""
        if not self.method.objective.couples or self.batches.count * self.fabric.world_size == 1:
            return batches
        progress = self.done.step / self.settings.steps
        step = partial(self.model, progress=progress, groups=groups)
        return two_passes(batches, step, self.fabric, lambda micro: self._seed_network(entry, f"/micro/{micro}"))

    def _clipped(self, groups: tuple[str, ...]) -> Tensor:
        """Clip the gradients of each group. Returns their norms before that."""
        limit = self.settings.gradient_clip or math.inf
        norms = [
            self.fabric.clip_gradients(self.model, self.optimisers[group], max_norm=limit, error_if_nonfinite=False)
            for group in groups
        ]
        return torch.stack([torch.as_tensor(math.nan if norm is None else norm).double() for norm in norms])

    @contextmanager
    def _constant_but(self, groups: tuple[str, ...]) -> Iterator[None]:
        """Make the parameters of all other groups constants: no gradient is computed for them."""
        others = [p for group, parameters in self.groups.items() if group not in groups for p in parameters]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _seed_network(self, number: int, part: str = "") -> None:
        """Key the network's own randomness (dropout) by step, entry of the order and rank: nothing need be saved."""
        key = f"network/{self.done.step}/{self.fabric.global_rank}" + (f"/{number}" if number else "") + part
        seed = derived_seed(self.settings.seed, key)
        # Not torch.manual_seed, which without CUDA queues a call with a stack trace every time.
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _agree(self, losses: Tensor, norms: Tensor, stopping: bool) -> list[float]:
        """Losses (means over the ranks), norms of the gradients, and whether any rank was asked to stop."""
        if self.fabric.world_size == 1:
            return [*torch.cat([losses, norms]).tolist(), float(stopping)]
        asked = torch.tensor([float(stopping)], dtype=torch.float64, device=losses.device)
        total = self.fabric.all_reduce(torch.cat([losses, asked]), reduce_op="sum")
        assert isinstance(total, Tensor)
        *values, some = torch.cat([total[:-1] / self.fabric.world_size, norms, total[-1:]]).tolist()
        return [*values, float(some > 0)]

    def _named(self, what: str, group: str) -> str:
        """The name of a value of a group in the log: the network's goes by the plain one."""
        return what if group == self.main else f"{what}/{group}"

    def _mean_losses(self) -> dict[str, float]:
        """Means since the last line of the log: ``loss`` of the network, and each term where there are several."""
        means = {name: total / self.done.count for name, total in self.done.sums.items()}
        terms = {f"loss/{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
        return {"loss": sum(m for name, m in means.items() if name.partition("/")[0] == self.main), **terms}

    def _report(self, values: dict[str, float], bar: ProgressBar) -> None:
        now, step = time.perf_counter(), self.done.step
        per_step = (now - self._mark[0]) / max(step - self._mark[1], 1)
        self._mark = (now, step)
        values = {
            **self._mean_losses(),
            **values,
            "samples_per_second": self.settings.batch_size / per_step,
            "seconds_per_step": per_step,
            "seconds": self.done.seconds,
        }
        self.done.sums, self.done.count = {}, 0
        if self.fabric.is_global_zero:
            self.run.log({"step": step, **values})
            bar.report(step, values)
        for listener in self.events:
            listener.training_step(self.run.path, step, values)

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            self.checkpoint.save(self.done, self.averages[NETWORK])
        self.fabric.barrier()
        for listener in self.events:
            listener.checkpoint_saved(self.run.path, self.done.step)
        self.saved = self.done.step

    def _restore(self) -> None:
        done = self.checkpoint.restore()
        if done is None:
            return
        self.done, self.saved = done, done.step
        for name, follower in self.method.averages().items():
            self.averages[name].copy_to(follower.module)

    def _non_finite(self, groups: tuple[str, ...], number: int) -> NonFiniteError:
        """Run the failing entry's micro batches once more, without other ranks, to name the first bad tensor."""
        self._seed_network(number)
        progress = self.done.step / self.settings.steps

        def loss(examples: Examples) -> Tensor:
            losses = self.unwrapped(Sealed(examples), progress, groups)
            return _total({f"{group}/{term}": each for group in groups for term, each in losses[group].items()})

        what = None
        with self.fabric.autocast(), self._constant_but(groups):
            for examples in self.batches.again(self.done.step, self.fabric.device):
                what = first_bad_tensor(self.unwrapped.trained, examples, loss)
                if what:
                    break
        where = "the gradient" if self.fabric.world_size == 1 else "a tensor on another device"
        kept = f"the last checkpoint is of step {self.saved}" if self.saved >= 0 else "no checkpoint was written since"
        return NonFiniteError(
            f"training stopped in step {self.done.step + 1}: {what or where} is NaN or infinite; check the data, lower "
            f"the learning rate or use precision '32-true' ({kept})."
        )


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    first, *others = terms.values()
    return sum(others, start=first)
