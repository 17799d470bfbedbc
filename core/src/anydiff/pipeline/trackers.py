"""Trackers of experiments as listeners of a training: TensorBoard, MLflow and Weights & Biases, each an extra.

Each is told the recipe and its hash once, the scalars of every logged step, and at each checkpoint a picture of samples
that are drawn from the averaged weights. Samples have streams of their own, so that a training is the same with any
tracker and with none.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.optional import require
from anydiff.recipes import Recipe
from anydiff.training import TrainingEvents

PICTURED = 16
"""Samples of a picture."""
CALLS = 10
"""Network calls of each at most."""


class Tracker(TrainingEvents):
    """What the three share; a context that closes what it opened.

    Args:
        recipe: what is trained.

    Raises:
        AnydiffError: the library is not installed; the sentence names the extra.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.library = require(self.module, f"--log {self.name}", f"anydiff[{self.name}]")
        self.opened = False

    name: str
    module: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.opened:
            self.close(failed=error is not None)

    def training_started(self, folder: Path, denoiser: Any, step: int) -> None:
        """Open the run and tell it the recipe."""
        self.open(folder, step)
        self.opened = True

    def training_step(self, folder: Path, step: int, values: Mapping[str, float]) -> None:
        """Tell the scalars."""
        self.scalars(step, {name: float(value) for name, value in values.items()})

    def checkpoint_saved(self, folder: Path, step: int) -> None:
        """Draw samples and show them, where the model can be asked without a condition."""
        picture = drawn(folder, step)
        if picture is not None:
            self.picture(step, picture)

    @abstractmethod
    def open(self, folder: Path, step: int) -> None:
        """Begin, or go on at ``step``."""

    @abstractmethod
    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log numbers."""

    @abstractmethod
    def picture(self, step: int, path: Path) -> None:
        """Log a PNG."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """Write what is left."""


class TensorBoard(Tracker):
    """Events in the run's folder ``tensorboard``."""

    name, module = "tensorboard", "tensorboard"

    def open(self, folder: Path, step: int) -> None:
        """A writer that purges what came after ``step``."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self.writer.add_text("recipe", f"{self.recipe.hash}\n\n```yaml\n{self.recipe.to_yaml()}```", step)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One event per number."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        """An image event; then everything is on disk."""
        from anydiff.data.frames import Conversion, read_picture

        self.writer.add_image("samples", read_picture(path, Conversion()), step, dataformats="HWC")
        self.writer.flush()

    def close(self, failed: bool) -> None:
        """Flush."""
        self.writer.close()


class MLflow(Tracker):
    """A run at the address that ``MLFLOW_TRACKING_URI`` says, else in the folder ``mlflow`` of the training."""

    name, module = "mlflow", "mlflow"

    def open(self, folder: Path, step: int) -> None:
        """A new run; a resumed training goes on in the run whose id its folder holds."""
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            (folder / "mlflow").mkdir(exist_ok=True)
            self.library.set_tracking_uri(f"sqlite:///{(folder / 'mlflow' / 'runs.db').resolve()}")
        kept = folder / "mlflow-run.txt"
        identity = kept.read_text(encoding="utf-8").strip() if kept.is_file() and step else None
        self.library.set_experiment(self.recipe.name)
        made = self.library.start_run(run_id=identity, run_name=folder.name)
        kept.write_text(f"{made.info.run_id}\n", encoding="utf-8")
        self.library.set_tags({"recipe_hash": self.recipe.hash})
        self.library.log_dict(self.recipe.model_dump(mode="json"), "recipe.json")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One request for all."""
        self.library.log_metrics(values, step=step)

    def picture(self, step: int, path: Path) -> None:
        """An artefact."""
        self.library.log_artifact(str(path), "samples")

    def close(self, failed: bool) -> None:
        """End the run."""
        self.library.end_run("FAILED" if failed else "FINISHED")


class WandB(Tracker):
    """A run of Weights & Biases; offline unless ``WANDB_MODE`` says otherwise."""

    name, module = "wandb", "wandb"

    def open(self, folder: Path, step: int) -> None:
        """A run whose configuration is the recipe."""
        self.run: Any = self.library.init(
            project=os.environ.get("WANDB_PROJECT", "anydiff"), name=folder.name, dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"), id=self.recipe.hash[:16], resume="allow",
            config={**self.recipe.model_dump(mode="json"), "recipe_hash": self.recipe.hash},
        )  # fmt: skip

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One row."""
        self.run.log(values, step=step)

    def picture(self, step: int, path: Path) -> None:
        """An image."""
        self.run.log({"samples": self.library.Image(str(path))}, step=step)

    def close(self, failed: bool) -> None:
        """Finish the run."""
        self.run.finish(exit_code=int(failed))


TRACKERS: dict[str, type[Tracker]] = {each.name: each for each in (TensorBoard, MLflow, WandB)}


def tracker(name: str, recipe: Recipe) -> Tracker:
    """The tracker called ``name`` for a training of ``recipe``.

    Raises:
        UnknownNameError: none of :data:`TRACKERS`.
        AnydiffError: its library is not installed.
    """
    if name not in TRACKERS:
        raise UnknownNameError("tracker (--log)", name, TRACKERS)
    return TRACKERS[name](recipe)


def drawn(folder: Path, step: int) -> Path | None:
    """A picture of samples of the run in ``folder``, which ``samples/step-N.png`` keeps; None where it needs more.

    A model that was never trained without its conditions cannot be asked for anything, and shows nothing.
    """
    from anydiff.pipeline.pipeline import load

    try:
        pipeline = load(folder)
        samples = pipeline.sample(PICTURED, nfe=min(CALLS, pipeline.recipe.sampling.nfe))
        path = folder / "samples" / f"step-{step}.png"
        path.parent.mkdir(exist_ok=True)
        pipeline.domain.draw(samples, path)
    except AnydiffError:
        return None
    return path
