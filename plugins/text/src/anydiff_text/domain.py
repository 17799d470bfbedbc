"""Texts: a state is one class per place, an object is a ``str``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydiff.domains import Domain, LabelledArray
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning, Known, Leaf, StateSpec
from anydiff_text.files import SUFFIXES, read_texts, write_texts
from anydiff_text.tokenisers import make_tokeniser

_GAP = re.compile(r"\{(\d+)\}")


class Texts(Domain):
    """Texts of at most ``length`` tokens as states int64 ``[B, length]``; a shorter one is filled with the end class.

    Args:
        length: L, places of a state.
        tokeniser: ``character`` or ``byte``.
        vocabulary: the characters of the tokeniser ``character``, as one text.

    Raises:
        AnydiffError: an option out of range.
    """

    name = "text"
    suffixes = SUFFIXES

    def __init__(self, length: int = 256, tokeniser: str = "character", vocabulary: str | None = None) -> None:
        self.length = natural_number("length", length)
        self.tokeniser, self.vocabulary = tokeniser, vocabulary
        self.tokens = make_tokeniser(tokeniser, vocabulary)
        self._spec = StateSpec([Leaf("tokens", (self.length,), kind="categorical", classes=self.tokens.tokens + 1)])

    @property
    def spec(self) -> StateSpec:
        """One categorical leaf named ``tokens``, ``(length,)``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """Which token each class is."""
        return {"tokeniser": self.tokeniser, "vocabulary": self.tokens.hash}

    def encode(self, objects: Sequence[str]) -> Tensor:
        """Class numbers int64 ``[B, length]``.

        Raises:
            AnydiffError: no text, one that is too long, or a character without a token.
        """
        rows = torch.full((len(objects), self.length), self.tokens.end, dtype=torch.int64)
        for row, text in enumerate(objects):
            numbers = self.numbers(text, f"text {row}")
            rows[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return rows

    def numbers(self, text: Any, what: str) -> list[int]:
        """The class numbers of one text, without ends; ``what`` names it in errors."""
        if not isinstance(text, str):
            raise AnydiffError(f"{what} is a {type(text).__name__}, but must be a str; give texts.")
        numbers = self.tokens.encode(text)
        if len(numbers) > self.length:
            raise AnydiffError(
                f"{what} has {len(numbers)} tokens, but a state has {self.length} places; cut it, or raise length."
            )
        return numbers

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[str]:
        """Texts, each up to its first end class.

        Raises:
            AnydiffError: states of another shape, or with a class that is none of these tokens (a mask, say).
        """
        self.spec.check(states)
        self.spec.check_classes(states, "the states")
        found = []
        for row in states.tolist():
            stop = row.index(self.tokens.end) if self.tokens.end in row else len(row)
            found.append(self.tokens.decode(row[:stop]))
        return found

    def read(self, path: str | Path) -> list[str]:
        """Texts of a ``.txt`` file (one), a folder of these, or a ``.jsonl`` file."""
        return read_texts(path)

    def write(self, objects: Sequence[str], path: str | Path) -> None:
        """Write a ``.jsonl`` file, a folder of ``.txt`` files, or one ``.txt`` file of one text."""
        write_texts(objects, path)

    def draw(self, objects: Sequence[str], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write the texts side by side as PNG."""
        from anydiff_text.pictures import draw_texts

        draw_texts(objects, path, titles)

    def parse_known(self, text: str) -> Known:
        """A text with gaps: ``{12}`` stands for 12 tokens that are to be found, as do all places after the text.

        Raises:
            AnydiffError: a text without a known token, longer than the states, or with a character that has no token.
        """
        values = torch.full((self.length,), self.tokens.end, dtype=torch.int64)
        mask = torch.zeros(self.length, dtype=torch.bool)
        place = 0
        for number, part in enumerate(_GAP.split(text)):
            if number % 2:
                place += natural_number("a gap of --known", int(part))
                continue
            numbers = self.tokens.encode(part)
            end = place + len(numbers)
            if end <= self.length:
                values[place:end], mask[place:end] = torch.tensor(numbers, dtype=torch.int64), True
            place = end
        if place > self.length:
            raise AnydiffError(
                f"the known text has {place} tokens with its gaps, but a state has {self.length} places; shorten it."
            )
        if not bool(mask.any()):
            raise AnydiffError(f"the known text {text!r} holds no token, so nothing is known; leave --known out.")
        return Known(values, mask)

    def arrays(self, states: Tensor, condition: Conditioning | None = None) -> dict[str, LabelledArray]:
        """``tokens [B, place]`` as class numbers."""
        return {"tokens": LabelledArray(states.detach().cpu().numpy(), ("place",), {"vocabulary": self.tokens.hash})}
