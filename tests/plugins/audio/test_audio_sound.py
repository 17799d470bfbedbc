"""Sounds of every library and back; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff_audio.data import recordings
from anydiff_audio.domain import Sounds
from anydiff_audio.sound import Sound

PCM = recordings()[7][None]
"""A real recording, int16 [1, N]."""
STEREO = np.stack([PCM[0], -(PCM[0] // 2)])
RATE = 8000


@pytest.mark.parametrize("pcm", [PCM, STEREO])
def test_every_library_gives_the_same_sound_and_gets_its_own_form_back(pcm):
    sound = Sound(pcm, RATE)
    floats = (pcm / 32768).astype(np.float32)
    assert np.array_equal(sound.samples, floats)
    assert np.array_equal(sound.pcm16(), pcm)
    frames_first = floats[0] if len(pcm) == 1 else floats.T
    for given in [
        (frames_first, RATE),
        (RATE, pcm[0] if len(pcm) == 1 else pcm.T),
        (np.int64(RATE), frames_first),
        (torch.from_numpy(floats), RATE),
        {"array": floats[0] if len(pcm) == 1 else floats, "sampling_rate": RATE},
        sound.soundfile(), sound.scipy(), sound.torchaudio(), sound.dictionary(),
    ]:  # fmt: skip
        again = Sound.of(given)
        assert again.rate == RATE
        assert np.array_equal(again.samples, floats)
    assert sound.soundfile()[0].shape == frames_first.shape
    assert sound.torchaudio()[0].shape == pcm.shape
    assert sound.scipy()[1].dtype == np.int16


def test_a_vector_needs_its_rate_and_one_channel():
    vector = (PCM[0] / 32768).astype(np.float32)
    assert np.array_equal(Sound.of(vector, RATE).vector(), vector)
    with pytest.raises(AnydiffError, match="rate of a sound is missing"):
        Sound.of(vector)
    with pytest.raises(AnydiffError, match=r"2 channels.*mono\(\)"):
        Sound(STEREO, RATE).vector()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (([], RATE), "no samples"),
        ((np.zeros((0, 1)), RATE), "no samples"),
        ((np.array([0.0, np.nan]), RATE), "holds nan at frame 1"),
        ((np.array([0.0, np.inf]), RATE), "holds inf at frame 1"),
        ((np.array([0.0, 1.5]), RATE), "up to 1.5"),
        ((np.array([0.0, 12000.0]), RATE), "looks like 16-bit PCM"),
        ((np.array([0, 12000]), RATE), "type int64, which does not say how many bits"),
        ((np.zeros(4), 0), "rate of the sound is 0"),
        ((np.zeros(4), 8000.5), "rate of the sound is 8000.5"),
        ((np.zeros(4), True), "rate of the sound is True"),
        ((np.zeros((2, 4, 4)), RATE), "must have one axis or two"),
        ((np.zeros((2, 8000)), RATE), "8000 channels and 2 frames, so its axes are swapped"),
        ({"array": np.zeros(4)}, "no 'sampling_rate'"),
        (np.zeros((2, 4)), "rate of a sound is missing"),
        ((np.array(["a"]), RATE), "samples are numbers"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused(given, says):
    with pytest.raises(AnydiffError, match=says):
        Sound.of(given)


def test_bits_are_read_by_their_type():
    assert Sound.of((np.array([0, 128, 255], np.uint8), RATE)).samples.tolist() == [[-1.0, 0.0, 127 / 128]]
    assert Sound.of((np.array([-(2**31), 2**30], np.int32), RATE)).samples.tolist() == [[-1.0, 0.5]]


def test_resampling_keeps_what_is_below_half_the_rate():
    """Twice the samples and back: speech at 8 kHz, without what the filter takes near 4 kHz."""
    sound = Sound(PCM, RATE)
    twice = sound.resampled(16000)
    assert twice.rate == 16000
    assert twice.frames == 2 * sound.frames
    error = np.abs(twice.resampled(RATE).samples - sound.samples).max()
    assert error < 0.05 * np.abs(sound.samples).max()


def test_the_domain_refuses_what_it_cannot_hold():
    domain = Sounds()
    sound = Sound(PCM, RATE)
    states = domain.encode([sound])
    assert states.shape == (1, 1, 10240)
    assert not states[0, 0, sound.frames :].any()
    assert np.array_equal(domain.decode(states)[0].pcm16()[:, : sound.frames], PCM)
    for wrong, says in [
        (Sound(PCM, 16000), r"16000 Hz.*resampled\(8000\)"),
        (Sound(STEREO, RATE), r"2 channels.*mono\(\)"),
        (Sound(np.tile(PCM, 4), RATE), "samples, but the states of this domain 10240"),
    ]:
        with pytest.raises(AnydiffError, match=says):
            domain.encode([sound, wrong])
    with pytest.raises(AnydiffError, match="not finite"):
        domain.decode(torch.full((1, 1, 10240), torch.nan))


def test_conditions_are_names_and_never_numbers_of_classes():
    domain = Sounds(class_names={"number": ["7", "30"], "voice": ["en", "fr"]})
    asked = domain.parse_condition({"number": "30", "voice": "fr,en"}, 3)
    assert {name: each.tolist() for name, each in asked.items()} == {"number": [1, 1, 1], "voice": [1, 0, 1]}
    with pytest.raises(AnydiffError, match="number"):
        domain.parse_condition({"number": "1"}, 1)
    with pytest.raises(AnydiffError, match="label"):
        domain.parse_condition({"label": "7"}, 1)
    with pytest.raises(AnydiffError, match="a name of its own"):
        Sounds(class_names={"voice": ["en", "EN"]})
