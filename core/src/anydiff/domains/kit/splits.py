"""Splits of a data set: their names, and the rules by which one pile of examples is shared among them."""

from __future__ import annotations

from typing import Literal, get_args

from anydiff.errors import UnknownNameError

Split = Literal["train", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
TENTH = 10


def check_split(split: str) -> None:
    """Refuse what is no split.

    Raises:
        UnknownNameError: ``split`` is not one of :data:`SPLITS`; suggests the nearest.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", str(split), SPLITS)


def every_tenth(count: int, split: str) -> list[int]:
    """The places of a split among ``count`` examples, where every tenth (9, 19, 29, ...) is held out for testing.

    Examples that come later change the split of none before them.

    Raises:
        UnknownNameError: no such split.
    """
    check_split(split)
    return [place for place in range(count) if (place % TENTH == TENTH - 1) == (split == "test")]


def last_share(count: int, split: str, share: float) -> slice:
    """The places of a split among ``count`` examples in order of time, where the last ``share`` is held out.

    At least one example is held out; the training split may be empty, which the caller refuses with its own advice.

    Raises:
        UnknownNameError: no such split.
    """
    check_split(split)
    first = count - max(1, round(share * count))
    return slice(0, first) if split == "train" else slice(first, None)
