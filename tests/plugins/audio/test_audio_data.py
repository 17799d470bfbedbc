"""The spoken numbers, their pictures and their metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.metrics import SampleSet
from anydiff_audio.data import BEGIN, Numbers, recordings
from anydiff_audio.metrics import LogSpectralDistance, VoiceAccuracy, WordAccuracy
from anydiff_audio.sound import Sound
from anydiff_audio.spectra import log_magnitudes


def test_the_recordings_are_whole_and_fit_a_state():
    assert len(recordings()) == 140
    assert max(map(len, recordings())) <= 10240
    assert min(map(len, recordings())) > 1000
    assert all(np.abs(each).max() > 3000 for each in recordings())


def test_the_first_examples_are_the_recordings_themselves():
    states, condition = Numbers().batch([0, 30, 139])
    assert condition.given["number"].tolist() == [0, 2, 27]
    assert condition.given["voice"].tolist() == [0, 1, 4]
    for row, place in enumerate((0, 30, 139)):
        pcm = recordings()[place]
        begin = min(BEGIN, 10240 - len(pcm))
        assert np.array_equal(states[row, 0].numpy()[begin : begin + len(pcm)] * 32768, pcm)


def test_copies_differ_within_their_bounds_and_are_the_same_for_ever():
    data = Numbers(copies=4)
    states = data.batch([3, 143, 283])[0]
    assert torch.equal(states, Numbers(copies=4).batch([3, 143, 283])[0])
    assert not torch.equal(states[1], states[2])
    assert float(states.abs().max()) < 1
    assert not torch.equal(states[1], Numbers(copies=4, seed=1).batch([143])[0][0])


def test_a_full_sine_has_zero_decibels_at_its_place():
    time = torch.arange(4000, dtype=torch.float64) / 8000
    spectrum = log_magnitudes(torch.sin(2 * torch.pi * 1000 * time)[None])[0]
    middle = spectrum[:, spectrum.shape[1] // 2]
    assert int(middle.argmax()) == 32
    assert float(middle.max()) == pytest.approx(0, abs=0.01)
    assert float(log_magnitudes(torch.zeros(1, 4000)).max()) == pytest.approx(-100)


def test_the_picture_shows_where_the_speech_is(tmp_path):
    data = Numbers()
    sounds = data.domain.decode(data.batch([7])[0])
    data.domain.draw([*sounds, Sound(np.zeros((1, 10)), 8000)], tmp_path / "a.png", ["7", "silence"])
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("L")).astype(float)
    tile = picture[6 : 6 + 145, 6 : 6 + 256]
    assert tile[49:, 20:60].mean() < tile[49:, -30:].mean() - 5, "speech is darker than the silence after it"


def test_words_and_voices_are_heard_in_recordings_and_not_in_others():
    data = Numbers("test")
    states, condition = data.batch(range(140))
    real = SampleSet(states, condition, data.domain)
    assert WordAccuracy().compute(real, real) >= 0.9
    assert VoiceAccuracy().compute(real, real) >= 0.9
    other = SampleSet(states.roll(1, 0), condition, data.domain)
    assert WordAccuracy().compute(other, real) < 0.1
    assert LogSpectralDistance().compute(SampleSet(states / 2, condition, data.domain), real) > 1
