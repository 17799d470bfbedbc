"""A bridge from a biased member to the truth: its pairs, and an ensemble drawn from the starts of held-out cases."""

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.pipeline import Pipeline
from anydiff.recipes import load_recipe
from anydiff_weather.bridge import Lorenz96Bridge
from anydiff_weather.data import Lorenz96Cases

SMALL = ["network.options.options={width: 8, blocks: 1, heads: 2, periodic: [false, true]}", "sampling.nfe=3"]


def test_each_seed_is_a_start_and_the_truth_is_where_it_leads():
    train, plain = Lorenz96Bridge("train"), Lorenz96Cases("train", "biased", 2, 0, 1)
    assert len(train) == 2 * len(plain)
    states, condition = train.batch(range(40))
    members, start = condition.given["members"], condition.sources["start"]
    assert torch.equal(start, members[:, 0])
    assert torch.equal(states, train.truth[torch.arange(40) // 20])
    firsts = {row.numpy().tobytes() for row in start[:20]}
    assert len(firsts) == 5, "each of the five members begins some bridges of a case"
    assert train.hash != plain.hash
    test, condition = Lorenz96Bridge("test").batch([0, 1])
    assert torch.equal(test, Lorenz96Cases("test", "biased").batch([0, 1])[0])
    bias = float((condition.sources["start"] - test).mean())
    assert bias > 0.3, "the system reads too high"


def test_an_ensemble_begins_at_the_starts_of_its_cases():
    pipeline = Pipeline.untrained(load_recipe("weather/gpp-bridge", SMALL))
    reference = pipeline.reference(2)
    samples = pipeline.like(reference, 6)
    assert samples.states.shape == (6, *pipeline.domain.spec.shape)
    spread = samples.states.reshape(3, 2, -1).std(0).mean()
    assert float(spread) > 0.1, "noise on the way makes an ensemble of one start"
    alone = pipeline.like(reference, 6, solver="interpolant", nfe=3).states
    assert torch.equal(alone[:2], alone[2:4]), "the ODE draws one field from one start"
    with pytest.raises(AnydiffError, match="start"):
        pipeline.sample(2, condition={name: value for name, value in reference.condition.given.items()})
