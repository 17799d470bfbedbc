"""Small data sets in memory, and trainings of the claims that need a network."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from anydiff.denoisers import NetworkDenoiser
from anydiff.objectives import Objective
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, StateSpec
from anydiff.training import ObjectiveMethod, RunFolder, TrainingSettings, fit, load_into, load_weights, meet


class Held:
    """States in memory, with conditions or without; random access.

    Args:
        name: which also stands for the content.
        states: ``[N, *spec.shape]``.
        spec: of one state.
        conditions: name -> kind.
        given: name -> values ``[N, ...]``.
    """

    def __init__(
        self,
        name: str,
        states: Tensor,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        given: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.name = self.hash = name
        self.states, self.spec = states, spec
        self.conditions, self.given = dict(conditions or {}), dict(given or {})

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The states, and what is given beside them."""
        rows = list(indices)
        given = {name: values[rows] for name, values in self.given.items()}
        return self.states[rows], Conditioning(given) if given else UNCONDITIONAL


def trained(
    denoiser: NetworkDenoiser, objective: Objective, data: Held, settings: TrainingSettings,
    teacher: NetworkDenoiser | None = None,
) -> NetworkDenoiser:  # fmt: skip
    """``denoiser`` after its training, with the averaged weights."""
    method = ObjectiveMethod(denoiser, objective)
    meet(method, {} if teacher is None else {"teacher": teacher})
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", settings.model_dump(mode="json"), {"recipe": "{}"})
        fit(method, data, settings, run)
        load_into(denoiser.network, load_weights(run.weights_path)[0], "the training")
    return denoiser.eval()
