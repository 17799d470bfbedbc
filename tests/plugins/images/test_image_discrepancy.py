"""Features of pictures inside a discrepancy."""

from __future__ import annotations

import pytest
import torch

from anydiff.errors import UnknownNameError
from anydiff.registry import registry


def test_a_discrepancy_of_pictures_has_all_options_of_any_and_its_own_features():
    made = registry().build(
        "objectives", "images/mmd", nfe=2, kernel="rbf", gamma=[0.5], features={"classifier": "fashion-mnist"}
    )
    assert (made.gamma, made.features(torch.zeros(2, 1, 28, 28)).shape) == ((0.5,), (2, 64))
    with pytest.raises(UnknownNameError, match="unknown option of the features of a discrepancy: 'clasifier'"):
        registry().build("objectives", "images/mmd", nfe=2, features={"clasifier": "fashion-mnist"})
    with pytest.raises(UnknownNameError, match="'classifier'"):
        registry().build("objectives", "mmd", nfe=2, features={"classifier": "fashion-mnist"})
