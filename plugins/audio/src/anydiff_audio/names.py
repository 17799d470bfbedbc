"""Rate, length, numbers and voices: of the data and of the recipes. Imports nothing heavy."""

from __future__ import annotations

RATE, SAMPLES = 8000, 10240
VOICES = ("en", "es", "fr", "it", "ru")
NUMBERS = (*range(21), *range(30, 100, 10))
LABELS = {"number": [str(number) for number in NUMBERS], "voice": list(VOICES)}
