"""Data sets of arrays: rows as given, dtypes as the core wants them, shapes that do not fit refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anydiff.data.dataset import ArrayDataset
from anydiff.errors import AnydiffError
from anydiff.testing.points import Points


class Rows(ArrayDataset):
    name, domain = "rows", Points()


def test_rows_come_back_in_any_order_with_their_conditions():
    states = np.arange(8, dtype=np.int32).reshape(4, 2)
    rows = Rows(states, {"label": np.array([True, False, True, True]), "size": torch.arange(4.0).double()})
    assert len(rows) == 4
    batch, condition = rows.batch([3, 0])
    assert torch.equal(batch, torch.tensor([[6.0, 7.0], [0.0, 1.0]]))
    assert batch.dtype == torch.float32
    assert torch.equal(condition.given["label"], torch.tensor([1, 1]))
    assert condition.given["size"].dtype == torch.float32
    assert rows.batch(np.array([1]))[1].given["label"].item() == 0
    states[0] = 99  # the arrays are copied
    assert rows.batch([0])[0].max() == 1
    assert Rows(states).hash != rows.hash


@pytest.mark.parametrize(
    ("states", "condition", "sentence"),
    [
        (np.zeros((4, 3)), {}, r"shape \(4, 3\), but its domain wants \[N, 2\]"),
        (np.zeros(2), {}, r"reshape them"),
        (np.zeros(()), {}, r"reshape them"),
        (np.zeros((4, 2)), {"label": [0, 1, 0]}, r"condition 'label' .* 4 states; give one row per state"),
        (np.zeros((4, 2)), {"label": 1}, r"give one row per state"),
    ],
)
def test_what_does_not_fit_is_refused(states, condition, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        Rows(states, condition)
