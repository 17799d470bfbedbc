"""The n-gram sampler by its law on a text of eight tokens, and the benchmark task that it belongs to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anydiff.data import Dataset
from anydiff.errors import AnydiffError
from anydiff.solvers import compile_plan
from anydiff.states import UNCONDITIONAL
from anydiff.tasks import load_reference, load_task
from anydiff_text.baselines import NgramSampler, ngram
from anydiff_text.domain import Texts

TEXT = torch.tensor([0, 1, 0, 2, 0, 1, 1, 0])


def test_what_follows_a_token_has_the_law_of_witten_and_bell() -> None:
    drawn = NgramSampler([TEXT], kinds=3, order=2).draw(40_000, 2, seed=3)
    alone = np.array([4, 3, 1]) / 8
    after_zero = (np.array([0, 2, 1]) + 2 * alone) / (3 + 2)  # followed by 1, 2, 1: three times, two kinds
    after_one = (np.array([2, 1, 0]) + 2 * alone) / (3 + 2)
    for token, law in ((0, after_zero), (1, after_one)):
        follows = drawn[drawn[:, 0] == token, 1]
        assert np.bincount(follows, minlength=3) / len(follows) == pytest.approx(law, abs=0.015)


def test_row_k_depends_on_the_seed_alone_and_no_run_crosses_two_texts() -> None:
    sampler = NgramSampler([torch.tensor([0, 1]), torch.tensor([2, 0])], kinds=3, order=2)
    many = sampler.draw(500, 4, seed=1)
    assert np.array_equal(many[:7], sampler.draw(7, 4, seed=1))
    assert not np.array_equal(many, sampler.draw(500, 4, seed=2))
    every, _ = sampler._tables[1]
    assert every.tolist() == [0 * 3 + 1, 2 * 3 + 0]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: NgramSampler([], 3), "needs texts that are not empty"),
        (lambda: NgramSampler([TEXT], 3, order=0), "order"),
        (lambda: NgramSampler([TEXT], 257, order=9), "no numbers below 2\\^62; lower order"),
        (lambda: ngram(Foreign(), UNCONDITIONAL, 2, 0), "counts Shakespeare's texts, but the data are 'foreign'"),
    ],
)
def test_what_cannot_be_counted_is_refused(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()


class Foreign(Dataset):
    name, hash = "foreign", "0"
    domain = Texts(4, vocabulary="ab")

    def __len__(self) -> int:
        return 1

    def batch(self, indices):
        raise AssertionError("nothing is read")


def test_the_task_stands_beside_counting_and_outside_of_quick_suites() -> None:
    task = load_task("text/shakespeare@1")
    assert load_reference(task.baselines["ngram"], "ngram") is ngram
    assert task.tier == "full", "no weights are bundled, so a quick suite would have nothing to run"
    assert [part.name for part in task.metrics] == ["text/judge-departure", "text/ngram-divergence", "text/copied"]


def test_solvers_of_real_numbers_have_no_meaning_on_its_path_and_are_told_apart_from_failures() -> None:
    from anydiff.errors import NotApplicableError
    from anydiff.paths import Masked

    with pytest.raises(NotApplicableError, match="take a solver of classes"):
        compile_plan("ddim", Masked().bind(Texts(4, vocabulary="ab").spec), 2)
