"""Domain and data set agree key by key; unknown keys in lists name their own level; categorical leaves are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import VPLinear
from anydiff.recipes import Recipe
from anydiff.recipes.build import codec_differences, same_values
from anydiff.states import Leaf, StateSpec
from anydiff.testing.points import Points


class Coded(Points):
    def __init__(self, **codec):
        self._codec = codec

    @property
    def codec(self):
        return self._codec


@pytest.mark.parametrize(
    ("one", "two", "differ"),
    [
        ({}, {}, set()),
        ({"scale": 2}, {"scale": 2.0}, set()),
        ({"types": ["C", "N"]}, {"types": ("C", "N")}, set()),
        ({"types": ["C", "N"]}, {"types": ["N", "C"]}, {"types"}),
        ({"scale": 2.0}, {}, {"scale"}),
        ({}, {"scale": 2.0}, {"scale"}),
        ({"scale": None}, {}, {"scale"}),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a", "b", "c"}),
        ({"mean": np.ones(3)}, {"mean": [1.0, 1.0, 1.0]}, set()),
        ({"mean": np.ones(3)}, {"mean": torch.zeros(3)}, {"mean"}),
        ({"on": True}, {"on": 1}, {"on"}),
    ],
)
def test_codecs_are_compared_key_by_key(one, two, differ):
    assert set(codec_differences(Coded(**one), Coded(**two))) == differ


def test_nested_values():
    assert same_values({"a": [1, {"b": (2, "c")}]}, {"a": (1, {"b": [2, "c"]})})
    assert not same_values({"a": [1, {"b": (2, "c")}]}, {"a": [1, {"b": [2, "d"]}]})


@pytest.mark.parametrize(
    ("where", "key", "nearest"),
    [
        ({"metrics": [{"name": "a", "option": {}}]}, "option", "options"),
        ({"sampling": {"guidance": [{"name": "clamp", "optins": {}}]}}, "optins", "options"),
        ({"sampling": {"guidence": []}}, "guidence", "guidance"),
        ({"metric": []}, "metric", "metrics"),
    ],
)
def test_an_unknown_key_names_the_keys_of_its_own_level(where, key, nearest):
    recipe = {"name": "a", "domain": "b", "dataset": "c", "network": "d", "training": {"steps": 1}}
    with pytest.raises(UnknownNameError, match=f"{key!r}; did you mean {nearest!r}"):
        Recipe.parse({**recipe, **where}, "recipe 'a'")


def test_categorical_leaves_are_refused_by_paths_of_real_numbers():
    spec = StateSpec([Leaf("kind", (4,), kind="categorical", classes=3)])
    with pytest.raises(AnydiffError, match=r"leaf 'kind' is categorical, but VPLinear.*3 channels"):
        VPLinear().bind(spec)
