"""Sound files: every width of WAV, FLAC, OGG, folders; files that are cut short or foreign."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from anydiff.errors import AnydiffError
from anydiff_audio.data import recordings
from anydiff_audio.files import read_sound, read_sounds, write_sounds
from anydiff_audio.folder import SoundFolder
from anydiff_audio.sound import Sound

PCM = recordings()[7]
RATE = 8000


def written(path, samples=PCM, rate=RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.mark.parametrize(
    ("subtype", "steps"), [("PCM_U8", 2**7), ("PCM_16", 2**15), ("PCM_24", 2**23), ("PCM_32", 2**23), ("FLOAT", 2**15)]
)
def test_every_width_of_wav_is_read_as_it_is_stored(subtype, steps, tmp_path):
    floats = PCM / 32768
    sound = read_sound(written(tmp_path / "a.wav", floats, subtype=subtype))
    assert sound.rate == RATE
    assert sound.name == "a"
    assert sound.frames == len(PCM)
    assert np.abs(sound.samples[0] - floats).max() <= (1 / steps if steps < 2**15 else 1e-7)


@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_16_bits_come_back_bit_for_bit_with_both_channels(ending, tmp_path):
    pcm = np.stack([PCM, -(PCM // 2)])
    write_sounds([Sound(pcm, RATE)], tmp_path / f"a{ending}")
    assert soundfile.info(tmp_path / f"a{ending}").subtype == "PCM_16"
    assert np.array_equal(read_sound(tmp_path / f"a{ending}").pcm16(), pcm)


def test_what_16_bits_do_not_hold_is_written_whole(tmp_path):
    fine = Sound(np.array([[1.0, 1 / 3, -1e-7]], np.float32), RATE)
    write_sounds([fine], tmp_path / "a.wav")
    assert np.array_equal(read_sound(tmp_path / "a.wav").samples, fine.samples)


def test_ogg_is_read_and_not_written(tmp_path):
    sound = read_sound(written(tmp_path / "a.ogg", PCM))
    close = np.corrcoef(sound.samples[0], PCM[: sound.frames])[0, 1]
    assert sound.frames == len(PCM)
    assert close > 0.95
    with pytest.raises(AnydiffError, match=r"'\.ogg'"):
        write_sounds([sound], tmp_path / "b.ogg")
    assert not (tmp_path / "b.ogg").exists()


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_file_that_is_cut_short_is_refused(ending, share, tmp_path):
    path = written(tmp_path / f"a{ending}")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(AnydiffError, match=r"a\."):
        read_sound(path)


def test_a_header_that_promises_more_is_refused_with_both_numbers(tmp_path):
    path = written(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(
        AnydiffError, match=rf"promises {2 * len(PCM)} bytes of samples, but holds {2 * len(PCM) - 2000}"
    ):
        read_sound(path)


@pytest.mark.parametrize("content", [b"", b"text", b"RIFF\0\0\0\0WAVE", b"fLaC" + bytes(80), b"OggS" + bytes(80)])
@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg"])
def test_foreign_files_are_refused(content, ending, tmp_path):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(AnydiffError, match=r"a\."):
        read_sound(path)


def test_values_that_are_no_samples_and_empty_files_name_the_file(tmp_path):
    for name, samples, says in [("loud", [0, 3.0], "up to 3"), ("nan", [0, np.nan], "nan"), ("none", [], "no samples")]:
        path = written(tmp_path / f"{name}.wav", np.array(samples), subtype="FLOAT")
        with pytest.raises(AnydiffError, match=rf"{name}\.wav.*{says}"):
            read_sound(path)


def test_a_folder_is_its_sounds_by_name_and_others_are_counted(tmp_path):
    write_sounds([Sound(PCM[None] // n, RATE, f"n{n}") for n in (1, 2)], tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match="1 files that are no sounds"):
        sounds = read_sounds(tmp_path / "out")
    assert [each.name for each in sounds] == ["0000-n1", "0001-n2"]
    assert np.array_equal(sounds[1].pcm16()[0], PCM // 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnydiffError, match="holds no sound"):
        read_sounds(tmp_path / "empty")
    with pytest.raises(AnydiffError, match="not an empty folder"):
        write_sounds(sounds, tmp_path / "out")
    with pytest.raises(AnydiffError, match="2 sounds were given"):
        write_sounds(sounds, tmp_path / "one.wav")


@pytest.fixture
def birds(tmp_path):
    for place, name in enumerate(("owl", "wren")):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for number in range(10):
            written(tmp_path / "birds" / name / f"{number}.wav", recordings()[10 * place + number])
    return tmp_path / "birds"


def test_a_folder_of_classes_is_a_data_set(birds):
    train, test = SoundFolder(birds), SoundFolder(birds, "test")
    assert len(train) == 18
    assert len(test) == 2
    assert train.spec == test.spec
    assert train.hash != test.hash
    assert train.domain.class_names == {"label": ["owl", "wren"]}
    states, condition = test.batch([1])
    assert condition.given["label"].tolist() == [1]
    pcm = recordings()[19]
    assert np.array_equal(test.domain.decode(states)[0].pcm16()[0, : len(pcm)], pcm)


def test_other_rates_and_channels_are_refused_until_asked_for(birds):
    written(birds / "owl" / "5.wav", np.stack([PCM, PCM], axis=1), rate=16000)
    with pytest.raises(AnydiffError, match=r"16000 Hz, but 8000.*resample=true"):
        SoundFolder(birds)
    with pytest.raises(AnydiffError, match="2 channels, but 1 are wanted; give mono=true"):
        SoundFolder(birds, resample=True)
    assert len(SoundFolder(birds, resample=True, mono=True)) == 18
    written(birds / "loose.wav")
    with pytest.raises(AnydiffError, match=r"both sub-folders and the file 'loose\.wav'"):
        SoundFolder(birds, resample=True, mono=True)
