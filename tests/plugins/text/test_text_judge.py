"""The judge by hand-made counts, what counts as copied, and the metrics on texts whose value is known."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.states import UNCONDITIONAL
from anydiff_text import judge as judging
from anydiff_text.data import works
from anydiff_text.domain import Texts
from anydiff_text.metrics import Copied, JudgeDeparture


def test_probabilities_are_those_of_witten_and_bell() -> None:
    small = judging.NgramJudge(["abab"], order=2, alphabet="ab")
    alone = (2 + 2 / 3) / 6  # a stands 2 times of 4, two kinds, and a third of the rest
    assert small.probability("", "a") == pytest.approx(alone)
    assert small.probability("b", "a") == pytest.approx((1 + alone) / 2)
    assert small.probability("xyb", "a") == small.probability("b", "a")
    assert sum(small.probability("a", each) for each in "ab?") == pytest.approx(1.0)
    assert small.bits(["ba"]) == pytest.approx(-(math.log2(alone) + math.log2((1 + alone) / 2)) / 2)


def test_no_text_of_the_training_parts_is_the_judges() -> None:
    train = [text[: len(text) - int(len(text) * judging.TEST_SHARE)] for text in works().values()]
    for begin in (0, 1):
        assert not any(part[:200] in text for part in judging._held_out(begin) for text in train)
    assert set(judging._held_out(0)).isdisjoint(judging.unseen())


def test_copies_are_found_whatever_breaks_their_lines(monkeypatch) -> None:
    text = "Now is the winter of our discontent made glorious summer by this sun of York"
    monkeypatch.setattr(judging, "works", lambda: {"one": text + "." * 9})  # the last tenth is held out
    judging._training_runs.cache_clear()
    try:
        assert judging.copied([text.replace("made", "\nmade")]) == 1.0
        assert judging.copied(["completely different words that nobody wrote"]) == 0.0
        half = judging.copied([text[:40] + "?" * 32])
        assert 0 < half < 0.5
        assert math.isnan(judging.copied(["short"]))
    finally:
        judging._training_runs.cache_clear()


def samples(texts: list[str]) -> SampleSet:
    domain = Texts(40, "byte")
    return SampleSet(domain.encode(texts), UNCONDITIONAL, domain)


def test_a_departure_is_the_difference_of_bits_and_copies_are_a_share(monkeypatch) -> None:
    small = judging.NgramJudge(["abab"], order=2, alphabet="ab")
    monkeypatch.setattr("anydiff_text.metrics.judge", lambda: small)
    found = JudgeDeparture().compute(samples(["abab", "ab"]), samples(["aaaa", "bb"]))
    assert found == pytest.approx(abs(small.bits(["abab", "ab"]) - small.bits(["aaaa", "bb"])))
    monkeypatch.setattr("anydiff_text.metrics.copied", lambda texts: math.nan)
    assert Copied().compute(samples(["a", "b"]), samples(["a", "b"])) == 0.0
    assert isinstance(samples(["a"]).states, torch.Tensor)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: judging.NgramJudge([], alphabet="ab"), "needs texts that are not empty"),
        (lambda: judging.NgramJudge(["ab"], order=0, alphabet="ab"), "order"),
        (lambda: judging.NgramJudge(["ab"], alphabet="ab").bits([""]), "hold no character"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()
