"""MMD finetuning (arXiv:2301.07969) on the features of a bundled classifier, through which gradients flow."""

from __future__ import annotations

from torch import Tensor

from anydiff.distillation import MMD
from anydiff_images.classifier import load_classifier


class ImageMMD(MMD):
    """:class:`~anydiff.distillation.MMD` of the 64 features of a classifier of pictures.

    Values beyond [-1, 1] are not clamped on the way to the features, since a clamp would stop their gradient. Judge by
    other features than the ones that were trained on.
    """

    def load_features(self, classifier: str = "fashion-mnist") -> None:
        """Load the bundled ``classifier``.

        Raises:
            UnknownNameError: no such classifier.
        """
        self.classifier = load_classifier(classifier)

    def features(self, states: Tensor) -> Tensor:
        """Features float64 ``[B, 64]`` of pictures ``[B, C, H, W]``, differentiable.

        Raises:
            AnydiffError: pictures of another shape than the classifier's.
        """
        return self.classifier.features(states)
