"""Short streams made together are, bit for bit, the streams that NumPy draws one after another."""

from __future__ import annotations

import numpy as np
import pytest

from anydiff.errors import AnydiffError
from anydiff.states import philox, standard_normal, streams, uniform


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_FEW", -1)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (2, 4)], ids=str)
@pytest.mark.parametrize("draw", [0, 7])
def test_streams_made_together_are_those_made_alone(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], draw: int
) -> None:
    samples = [*range(1500), 2**63, 2**64 - 1]
    normal, flat = (f(2**64 - 5, samples, draw, "leaf", shape) for f in (standard_normal, uniform))
    one_by_one(monkeypatch)
    assert np.array_equal(standard_normal(2**64 - 5, samples, draw, "leaf", shape), normal)
    assert np.array_equal(uniform(2**64 - 5, samples, draw, "leaf", shape), flat)


def test_the_words_are_those_of_numpys_generator() -> None:
    made = philox.words(11, 13, 3, np.array([7, 2**64 - 1], dtype=np.uint64), 9)
    for sample, row in zip((7, 2**64 - 1), made, strict=True):
        counter = np.array([0, 0, 3, sample], dtype=np.uint64)
        bits = np.random.Philox(counter=counter, key=np.array([11, 13], dtype=np.uint64))
        assert np.array_equal(bits.random_raw(9), row)


def test_most_numbers_stand_at_first_sight_and_each_layer_has_one_width() -> None:
    widths = philox.layer_widths(streams._first_normals)
    assert widths is not None, "NumPy draws normal numbers by another method: short streams are slow, not wrong"
    _, standing = philox.normals(philox.words(0, 1, 0, np.arange(4000, dtype=np.uint64), 8), widths)
    assert 0.97 < standing.mean() < 0.995


def test_another_method_of_drawing_is_seen_and_not_mixed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_a_bit(samples: range, count: int) -> np.ndarray:
        drawn = streams._first_normals(samples, count)
        drawn[5::7] = np.nextafter(drawn[5::7], np.inf)
        return drawn

    def another_law(samples: range, count: int) -> np.ndarray:
        return streams._first_normals(samples, count)[::-1]

    assert philox.layer_widths(off_by_a_bit) is None
    assert philox.layer_widths(another_law) is None
    want = standard_normal(3, range(300), 0, "x", (2,))
    monkeypatch.setattr(philox, "layer_widths", lambda draws: None)
    assert np.array_equal(standard_normal(3, range(300), 0, "x", (2,)), want)


@pytest.mark.parametrize("wrong", [1.5, -1, 2**64, True])
def test_a_sample_that_is_no_whole_number_is_refused_among_many(wrong: object) -> None:
    with pytest.raises(AnydiffError, match="sample"):
        standard_normal(0, [*range(300), wrong], 0, "x", (2,))  # type: ignore[list-item]
