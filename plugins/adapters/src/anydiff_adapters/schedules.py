"""What several libraries share: tables of betas, and the words for what a network predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anydiff.denoisers import PredictionKind
from anydiff.errors import UnknownNameError

KINDS: dict[str, PredictionKind] = {
    "epsilon": "noise",
    "sample": "data",
    "v_prediction": "velocity",
    "pred_noise": "noise",
    "pred_x0": "data",
    "pred_v": "velocity",
}
"""The libraries' words for a kind of prediction."""


def kind_of(word: object, what: str) -> PredictionKind:
    """Our kind of prediction for a library's ``word``; ``what`` names it in errors.

    Raises:
        UnknownNameError: a word that is none of :data:`KINDS`.
    """
    text = str(getattr(word, "value", word))
    if text not in KINDS:
        raise UnknownNameError(what, text, KINDS)
    return KINDS[text]


def ladder(betas: Any) -> dict[str, Any]:
    """The path of a table of β, as a part of a recipe."""
    numbers: Sequence[float] = betas.tolist() if hasattr(betas, "tolist") else list(betas)
    return {"name": "ladder", "options": {"betas": [float(each) for each in numbers]}}
