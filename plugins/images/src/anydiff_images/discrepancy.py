"""MMD finetuning (arXiv:2301.07969) on the features of a bundled classifier, through which gradients flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from anydiff.distillation import MMD
from anydiff_images.classifier import load_classifier


class ImageMMD(MMD):
    """:class:`~anydiff.distillation.MMD` of the 64 features of a classifier of pictures.

    Values beyond [-1, 1] are not clamped on the way to the features, since a clamp would stop their gradient. Judge by
    other features than the ones that were trained on.

    Args:
        nfe: calls of the plan.
        solver: of the plan.
        grid: its time grid.
        end: how the plan ends.
        guidance: around the network while it samples.
        kernel: ``energy``, ``rbf`` or ``polynomial``.
        classifier: a bundled one.

    Raises:
        UnknownNameError: no such classifier, kernel or guidance.
    """

    def __init__(
        self,
        nfe: int,
        solver: str = "ddim",
        grid: str | Sequence[float] | None = None,
        end: str = "clean",
        guidance: Sequence[str | Mapping[str, Any]] = (),
        kernel: str = "energy",
        classifier: str = "fashion-mnist",
    ) -> None:
        super().__init__(nfe, solver, grid, end, guidance, kernel)
        self.classifier = load_classifier(classifier)

    def features(self, states: Tensor) -> Tensor:
        """Features float64 ``[B, 64]`` of pictures ``[B, C, H, W]``, differentiable.

        Raises:
            AnydiffError: pictures of another shape than the classifier's.
        """
        return self.classifier.features(states)
