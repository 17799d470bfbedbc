"""Forecasts of a file are judged as those in memory: with the truth and the unit of the window that they are of."""

from __future__ import annotations

import pytest
import torch

from anydiff.metrics import SampleSet
from anydiff.metrics.ensembles import repeat_cases
from anydiff.pipeline import load


@pytest.fixture(scope="module")
def pipeline():
    return load("timeseries/traffic-conditional")


def test_the_metrics_of_forecasts_are_those_of_what_was_written(pipeline, tmp_path):
    reference = pipeline.reference(3)
    asked = repeat_cases(reference.asked(3), 4)
    noise = torch.randn(12, *reference.states.shape[1:], generator=torch.Generator().manual_seed(0))
    samples = SampleSet(reference.states.repeat(4, 1, 1) + 0.1 * noise, asked, pipeline.domain)
    right = pipeline.scores(samples, reference)
    assert len(right) == len(pipeline.recipe.metrics)
    objects = pipeline.domain.decode(samples.states, samples.condition)
    labels, members = list(reference.labels) * 4, [row // 3 for row in range(12)]
    named = pipeline.domain.labelled(objects, labels, members)
    pipeline.domain.write([named[row] for row in torch.randperm(12).tolist()], tmp_path / "f.csv")
    judged, cases = pipeline.paired(pipeline.domain.read(tmp_path / "f.csv"), pipeline.reference(8))
    assert len(cases) == 3
    found = pipeline.scores(judged, cases)
    assert {name: score.value for name, score in found.items()} == pytest.approx(
        {name: score.value for name, score in right.items()}, rel=1e-5
    )


def test_a_window_asked_for_an_observation_is_in_its_unit(pipeline):
    domain, reference = pipeline.domain, pipeline.reference(2)
    states = reference.states * torch.tensor([1.0, 3.0])[:, None, None]
    windows = domain.decode(states, reference.condition)
    assert torch.allclose(domain.encode_asked(windows, reference.condition), states, rtol=1e-5)
    assert not torch.allclose(domain.encode(windows), states, rtol=0.1)
