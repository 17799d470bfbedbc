"""Whether a companion can be asked what a term asks it: about the same states, at the same times of the same path."""

from __future__ import annotations

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError


def check_same_states(denoiser: Denoiser, companion: Denoiser, role: str, trained: str = "student") -> None:
    """Refuse a companion of other states or another path than the denoiser that is trained.

    Args:
        denoiser: what is trained.
        companion: what is asked.
        role: of the companion, as a sentence says it: ``teacher``.
        trained: what the denoiser is to it.

    Raises:
        AnydiffError: it is.
    """
    shapes = [None if each.spec is None else tuple(each.spec.shape) for each in (denoiser, companion)]
    if shapes[0] != shapes[1]:
        raise AnydiffError(
            f"the {role} is of states of shape {shapes[1]}, but the {trained} of {shapes[0]}; name a {role} of the "
            "same states."
        )
    if companion.path != denoiser.path:
        raise AnydiffError(
            f"the {role}'s path is {companion.path!r}, but the {trained}'s is {denoiser.path!r}; give both the same "
            "path and range of times."
        )


def check_axes(denoiser: Denoiser, what: str, fix: str) -> None:
    """Refuse states that are no pictures, volumes or sequences of channels.

    Raises:
        AnydiffError: they have no spatial axes, or more than three.
    """
    shape = None if denoiser.spec is None else tuple(denoiser.spec.shape)
    if shape is not None and not 2 <= len(shape) <= 4:
        raise AnydiffError(f"states of shape {shape} have no spatial axes and so no {what}; {fix}.")
