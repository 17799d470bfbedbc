"""Origin and licence of every data set of the audio plugin. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data import LedgerRow

NUMBERS = LedgerRow(
    name="audio/numbers",
    title="The numbers 0 to 20, 30, ..., 90 spoken in five languages: 140 recordings, 8 kHz, 16 bits, mono",
    licence="CC-BY-SA-3.0 (English, Spanish, French), CC-BY-3.0 (Italian, Russian)",
    origin="Asterisk core sounds 1.6.1: Allison Smith (en, es), June Wallack (fr), Carlo Flora (it), Maxim Topal (ru)",
    bundled="all of it: the files digits/N of each language, coded as FLAC without loss; credits in numbers/CREDITS",
    notes="telephone prompts; English and Spanish are spoken by the same person",
)
