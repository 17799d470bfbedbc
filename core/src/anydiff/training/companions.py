"""Frozen models that a loss asks: a teacher, a source, an earlier self. Named in the recipe, given to terms by name.

A companion is in evaluation mode and has no gradient of its own; one may flow through it to what it is asked about. It
is moved to the device of the training, stands in no optimiser, no average and no exported weights, and a checkpoint
holds its hash, so that a training goes on with the same one or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError

if TYPE_CHECKING:
    from anydiff.training.method import TrainingMethod


def frozen(denoiser: NetworkDenoiser) -> NetworkDenoiser:
    """``denoiser`` itself, in evaluation mode and without gradients of its own."""
    return denoiser.eval().requires_grad_(False)


def meet(method: TrainingMethod, companions: Mapping[str, NetworkDenoiser]) -> None:
    """Give ``method`` its companions, by name.

    Raises:
        AnydiffError: its objective needs one that is not there, or refuses one.
    """
    for name in method.objective.needs:
        if name not in companions:
            raise AnydiffError(
                f"the objective asks for the companion {name!r}, but the recipe names "
                f"{', '.join(companions) or 'none'}; set companions.{name} to a recipe, run folder or weights file."
            )
    method.companions = {name: frozen(each) for name, each in companions.items()}
    method.objective.meet(method.denoiser, method.companions)


def frozen_modules(method: TrainingMethod) -> dict[str, nn.Module]:
    """Everything that is never trained: what the method holds, and the companions of its recipe."""
    named: dict[str, nn.Module] = {f"companion/{name}": each for name, each in method.companions.items()}
    return {**named, **method.frozen()}
