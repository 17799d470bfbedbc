"""The audio domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"


@hookimpl
def register_domains(register: Register) -> None:
    """Sounds of one rate and length."""
    register("audio", "sounds of one rate and length", "anydiff_audio.domain:Sounds")


@hookimpl
def register_datasets(register: Register) -> None:
    """Spoken numbers, and a user's own folder."""
    register(
        "audio/numbers",
        "the numbers 0 to 90 spoken in five languages; 140 recordings bundled, with seeded changes",
        "anydiff_audio.data:Numbers",
        ledger="anydiff_audio.ledger:NUMBERS",
    )
    register("audio/folder", "your own sounds, a sub-folder per class or none", "anydiff_audio.folder:SoundFolder")


@hookimpl
def register_metrics(register: Register) -> None:
    """Words and voices that a classifier hears, distances of features and of spectra."""
    metrics = "anydiff_audio.metrics"
    register("audio/word-accuracy", "share of sounds of the number asked for", f"{metrics}:WordAccuracy")
    register("audio/voice-accuracy", "share of sounds of the voice asked for", f"{metrics}:VoiceAccuracy")
    register("audio/frechet-distance", "Fréchet distance of a classifier's features", f"{metrics}:FrechetDistance")
    register("audio/log-spectral-distance", "difference of mean log spectra, dB", f"{metrics}:LogSpectralDistance")


@hookimpl
def register_recipes(register: Register) -> None:
    """Spoken numbers: codes, and diffusion of waveforms."""
    recipes = "anydiff_audio.recipes"
    register("audio/codes", "autoencoder of speech with a codebook", f"{recipes}:codes")
    register(
        "audio/numbers-wave", "a number and a voice to speech, by diffusion of the waveform", f"{recipes}:numbers_wave"
    )
