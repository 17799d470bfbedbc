"""What a training spends and how: every key can change the trained model, or is listed as one that cannot."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from anydiff.errors import AnydiffError
from anydiff.settings import Settings
from anydiff.training.optimisers import OPTIMISERS, SCHEDULES, Optimiser

Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true"]


class TrainingSettings(Settings):
    """Budget and optimiser of a training. All counts are in optimizer steps and global examples.

    Attributes:
        steps: optimizer steps in all.
        batch_size: examples per optimizer step, all devices together.
        micro_batch_size: most examples per forward and backward pass of one device; None for no limit. Gradients are
            accumulated, so it changes memory and nothing else (beyond rounding).
        noise_levels: noisy copies of each example in a step, at times spread evenly over the uniform number and with a
            noise of their own. A network's ``encode_condition`` runs once for all of them, which pays where it costs
            more than a step.
        optimiser: a name in :data:`anydiff.training.optimisers.OPTIMISERS`.
        learning_rate: of the optimiser, after the warm-up.
        warmup_steps: steps over which the learning rate rises linearly from zero.
        schedule: ``constant``, or ``cosine`` (to zero at ``steps``).
        weight_decay: of the optimiser; matrices and kernels only, never biases, norms or null embeddings.
        betas: of the optimiser.
        gradient_clip: largest norm of the whole gradient; None for no limit.
        ema_decay: decay of the averaged weights per step, which is what is saved and sampled; 0 for no averaging.
        precision: ``32-true``, ``64-true``, ``bf16-mixed``, ``16-mixed`` (accelerators only) or ``bf16-true``.
        seed: initial weights, order, times, noise and dropout all follow from it.
        checkpoint_every: steps between checkpoints (one is always made at the end).
        log_every: steps between lines of the log.
        condition_dropout: probability with which each condition, on its own, is hidden from the network.
        prefetch: most batches that a thread makes ahead of the step that asks for them; 0 makes each when it is asked
            for (to debug a data set). It changes speed and nothing else.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(default=64, ge=1)
    micro_batch_size: int | None = Field(default=None, ge=1)
    noise_levels: int = Field(default=1, ge=1)
    optimiser: str = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: str = "constant"
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    betas: tuple[float, float] = (0.9, 0.99)
    gradient_clip: float | None = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Precision = "32-true"
    seed: int = Field(default=0, ge=0, lt=2**63)
    checkpoint_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=50, ge=1)
    condition_dropout: float = Field(default=0.0, ge=0, le=1)
    prefetch: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), not {self.betas}")
        for field, known in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES)):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} must be one of {', '.join(known)}, not {getattr(self, field)!r}")
        return self

    def group_optimiser(self) -> Optimiser:
        """What moves a group of parameters, unless the training method says otherwise."""
        return Optimiser(
            self.optimiser, self.learning_rate, self.weight_decay, self.betas, self.schedule, self.warmup_steps
        )

    def check_resume(self, before: dict[str, object], uses_progress: bool = False) -> None:
        """Raise an AnydiffError that names the first setting that differs from ``before`` and changes the model.

        Args:
            before: the settings that the run was begun with.
            uses_progress: whether the training method asks which share of the steps is done.
        """
        free = {"micro_batch_size", "checkpoint_every", "log_every", "prefetch"}
        if self.schedule == "constant" and not uses_progress:
            free.add("steps")  # a longer training is then the same one, continued
        for name, value in self.model_dump(mode="json").items():
            if name not in free and name in before and before[name] != value:
                raise AnydiffError(
                    f"{name} is {value!r}, but the run was begun with {before[name]!r}; "
                    "set it back to resume, or train into a new folder."
                )
