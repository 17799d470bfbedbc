"""Settings: misspellings are named with a suggestion, and the learning rate is a pure function of the step."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.training import TrainingSettings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stpes": 3, "steps": 3}, "did you mean 'steps'"),
        ({"steps": 3, "lerning_rate": 1}, "did you mean 'learning_rate'"),
        ({"steps": 0}, "steps .* is 0"),
        ({}, "steps is missing"),
        ({"steps": 3, "batch_size": 1.5}, "batch_size .* is 1.5"),
        ({"steps": 3, "precision": "fp8"}, "precision .* is 'fp8'"),
        ({"steps": 3, "ema_decay": 1.0}, "ema_decay .* is 1.0"),
        ({"steps": 3, "betas": (0.9, 1.0)}, "betas must lie"),
        ({"steps": 3, "learning_rate": float("nan")}, "learning_rate .* is nan"),
        ({"steps": 3, "seed": -1}, "seed .* is -1"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(AnydiffError, match=message) as caught:
        TrainingSettings.parse(wrong, "the test")
    assert isinstance(caught.value, UnknownNameError) == ("did you mean" in message)


def test_learning_rate_warms_up_and_falls():
    settings = TrainingSettings(steps=100, learning_rate=2.0, warmup_steps=4)
    assert [settings.group_optimiser().rate(step, 100) for step in (0, 1, 3, 4, 99)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    cosine = TrainingSettings(steps=100, learning_rate=2.0, schedule="cosine").group_optimiser()
    assert cosine.rate(0, 100) == 2.0
    assert cosine.rate(50, 100) == pytest.approx(1.0)
    assert 0 < cosine.rate(99, 100) < 1e-3


def test_resume_refuses_what_would_make_another_model():
    settings = TrainingSettings(steps=100, batch_size=32)
    before = settings.model_dump(mode="json")
    settings.check_resume(before)
    TrainingSettings(steps=200, batch_size=32, micro_batch_size=4, log_every=7).check_resume(before)
    with pytest.raises(AnydiffError, match="batch_size is 16, but the run was begun with 32"):
        TrainingSettings(steps=100, batch_size=16).check_resume(before)
    cosine = TrainingSettings(steps=100, schedule="cosine")
    with pytest.raises(AnydiffError, match="steps is 200"):
        TrainingSettings(steps=200, schedule="cosine").check_resume(cosine.model_dump(mode="json"))
