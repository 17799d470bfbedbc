"""The rules that share a pile of examples between training and test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import anydiff
from anydiff.domains.kit import check_split, every_tenth, last_share
from anydiff.errors import UnknownNameError

REPOSITORY = Path(anydiff.__file__).parents[3]


def test_every_tenth_example_is_held_out_and_none_is_in_both_splits() -> None:
    assert every_tenth(25, "test") == [9, 19]
    assert sorted([*every_tenth(25, "train"), *every_tenth(25, "test")]) == list(range(25))
    assert every_tenth(9, "test") == []


def test_more_examples_move_none_from_one_split_to_the_other() -> None:
    assert every_tenth(100, "train")[: len(every_tenth(55, "train"))] == every_tenth(55, "train")


@pytest.mark.parametrize(("count", "share", "first"), [(10, 0.2, 8), (7, 0.2, 6), (3, 0.01, 2), (1, 0.5, 0)])
def test_the_last_share_is_held_out_and_is_never_empty(count: int, share: float, first: int) -> None:
    assert last_share(count, "train", share) == slice(0, first)
    assert last_share(count, "test", share) == slice(first, None)


@pytest.mark.parametrize("split", ["tset", "validation", "", None])
def test_what_is_no_split_is_refused(split: str) -> None:
    for call in (check_split, lambda name: every_tenth(3, name), lambda name: last_share(3, name, 0.5)):
        with pytest.raises(UnknownNameError, match="split"):
            call(split)


def test_no_plugin_has_a_check_of_its_own() -> None:
    own = re.compile(r'UnknownNameError\(\s*"split"|Literal\["train", "test"\]')
    assert not [str(file) for file in (REPOSITORY / "plugins").rglob("src/**/*.py") if own.search(file.read_text())]
