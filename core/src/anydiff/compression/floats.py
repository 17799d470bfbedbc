"""Who needs weights that a gradient can move refuses a network of packed integers by one sentence."""

from __future__ import annotations

from torch import nn

from anydiff.compression.quantised import Quantised
from anydiff.errors import AnydiffError


def require_floats(network: nn.Module, what: str, name: str) -> None:
    """Refuse a quantised network where weights are needed that a gradient can move.

    Args:
        network: of a model.
        what: needs them, as a sentence begins: ``"a training"``.
        name: of the model.

    Raises:
        AnydiffError: it is quantised.
    """
    if isinstance(network, Quantised):
        raise AnydiffError(
            f"{what} needs weights that a gradient can move, but {name!r} is quantised ({network.weights} bits); take "
            "the model that it was made from, and quantise the result."
        )
