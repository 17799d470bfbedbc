"""What a training is resumed from: all modules, averages and optimisers by name, and how far the training was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from anydiff.data.reading import reading
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.training.ema import EMA
from anydiff.training.run import RunFolder
from anydiff.training.settings import TrainingSettings


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: optimizer steps done.
        seconds: time spent in them.
        sums: losses by ``group/term``, summed since the last line of the log.
        count: steps since that line.
    """

    step: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Everything whose state decides how a training goes on.

    Attributes:
        run: where it is kept.
        dataset: has ``name`` and ``hash``.
        settings: of the training.
        modules: that are trained, by name.
        averages: by name; that of ``network`` is what the training leaves.
        optimisers: by group.
        precision: the precision plugin of Fabric, which holds a loss scale.
        frozen: hashes of the weights of frozen companions, by name.
        uses_progress: whether the training method asks how far the training is.
    """

    run: RunFolder
    dataset: Any
    settings: TrainingSettings
    modules: Mapping[str, nn.Module]
    averages: Mapping[str, EMA]
    optimisers: Mapping[str, Any]
    precision: Any
    frozen: Mapping[str, str]
    uses_progress: bool

    def state(self, done: Progress) -> dict[str, Any]:
        """Plain containers, numbers, texts and tensors."""
        return {
            "step": done.step,
            "settings": self.settings.model_dump(mode="json"),
            "dataset": {"name": str(self.dataset.name), "hash": str(self.dataset.hash)},
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "optimisers": {group: optimiser.state_dict() for group, optimiser in self.optimisers.items()},
            "frozen": dict(self.frozen),
            "precision": self.precision.state_dict(),
            "losses": {"sums": dict(done.sums), "count": done.count},
            "seconds": done.seconds,
        }

    def save(self, done: Progress, weights: EMA) -> None:
        """Write the averaged weights and the state."""
        dataset = self.dataset
        facts = {"step": str(done.step), "dataset": str(dataset.name), "dataset_hash": str(dataset.hash)}
        # Weights without a state cannot be resumed, so the first state comes before them; a kill in between
        # leaves a run that goes on.
        first = not self.run.has_state
        if first:
            self.run.save_state(self.state(done))
        self.run.save_weights(weights.tensors, **facts)
        if not first:
            self.run.save_state(self.state(done))

    def restore(self) -> Progress | None:
        """Take over the run's last checkpoint, and return how far it is; None if there is none.

        Raises:
            AnydiffError: it is of other settings, data or frozen companions.
            FileFormatError: it is damaged, or of another network or training method.
        """
        state = self.run.load_state()
        if state is None:
            return None
        advice = "restore it, or train into a new folder"
        with reading(self.run.path / "state.pt", "the state of a training", advice):
            return self._apply(state)

    def _apply(self, state: dict[str, Any]) -> Progress:
        self.settings.check_resume(state["settings"], self.uses_progress)
        found = str(state["dataset"]["hash"])
        if found != str(self.dataset.hash):
            raise AnydiffError(
                f"the data set {self.dataset.name!r} has the hash {str(self.dataset.hash)[:12]}, but the run was begun "
                f"with {found[:12]}; restore the data to resume, or train into a new folder."
            )
        self._check_names(state)
        try:
            for kind, things in (
                ("modules", self.modules),
                ("averages", self.averages),
                ("optimisers", self.optimisers),
            ):
                for name, thing in things.items():
                    thing.load_state_dict(state[kind][name])
        except (RuntimeError, KeyError, ValueError) as error:  # another network than the one that was saved
            reason = " ".join(str(error).split())[:200]
            raise FileFormatError(
                f"the checkpoint in {str(self.run.path)!r} belongs to another network ({reason}); "
                "restore the recipe or train into a new folder."
            ) from error
        self.precision.load_state_dict(state["precision"])
        sums = {str(name): float(value) for name, value in state["losses"]["sums"].items()}
        return Progress(state["step"], state["seconds"], sums, state["losses"]["count"])

    def _check_names(self, state: Mapping[str, Any]) -> None:
        """The checkpoint's modules, averages, optimisers and companions are those of this training."""
        where, advice = f"the checkpoint in {str(self.run.path)!r}", "restore the recipe or train into a new folder"
        for kind in ("modules", "averages", "optimisers", "frozen"):
            before, now = sorted(state[kind]), sorted(getattr(self, kind))
            if before != now:
                raise FileFormatError(
                    f"{where} belongs to another training method: its {kind} are {', '.join(before) or 'none'}, but "
                    f"those of this one are {', '.join(now) or 'none'}; {advice}."
                )
        for name, digest in self.frozen.items():
            if state["frozen"][name] != digest:
                raise AnydiffError(
                    f"the frozen companion {name!r} has the weights {digest[:12]}, but the run was begun with "
                    f"{str(state['frozen'][name])[:12]}; {advice}."
                )
