"""Cases with labels: what a condition names, and samples made elsewhere compared by their case."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.metrics.ensembles import in_layout, members_per_case
from anydiff.pipeline.pipeline import Pipeline
from anydiff.states import Conditioning, StateSpec


class Stations:
    """Objects are pairs (name of the station, number)."""

    name, spec = "stations", StateSpec.single((1,))

    def encode(self, objects):
        return torch.tensor([[float(number)] for _, number in objects]).reshape(-1, 1)

    def encode_asked(self, objects, condition):
        return self.encode(objects)

    def match(self, objects, labels):
        return [labels.index(name) for name, _ in objects]


def test_samples_are_brought_into_the_layout_of_ensembles():
    order, cases = in_layout([7, 2, 2, 7, 4, 4])
    assert cases == [2, 4, 7]
    assert order == [1, 4, 0, 2, 5, 3]
    grouped = members_per_case(torch.tensor([7, 2, 2, 7, 4, 4])[order], 3)
    assert grouped.tolist() == [[2, 2], [4, 4], [7, 7]]
    with pytest.raises(AnydiffError, match=r"1 of 2 cases have 1 samples \(first case 5 .* others 2"):
        in_layout([3, 5, 3])
    assert in_layout([]) == ([], [])


def test_objects_are_compared_with_their_own_case_in_any_order():
    domain = Stations()
    names = ["a", "b", "c", "d"]
    reference = SampleSet(torch.arange(4.0)[:, None], Conditioning({"x": torch.arange(4)}), domain, names)
    pipeline = Pipeline(SimpleNamespace(), SimpleNamespace(), domain)
    objects = [("d", 3.0), ("b", 1.0), ("b", 1.5), ("d", 2.0)]
    samples, truth = pipeline.paired(objects, reference)
    assert truth.labels == ["b", "d"]
    assert truth.condition.given["x"].tolist() == [1, 3]
    np.testing.assert_array_equal(samples.states[:, 0], [1.0, 3.0, 1.5, 2.0])
    assert samples.condition.given["x"].tolist() == [1, 3, 1, 3]
    unlabelled = SampleSet(reference.states, reference.condition, domain)
    samples, truth = pipeline.paired(objects, unlabelled)
    assert len(truth) == 4
    np.testing.assert_array_equal(samples.states[:, 0], [3.0, 1.0, 1.5, 2.0])
