"""Tokenisers: a text as class numbers and back. Each knows its own vocabulary, and says it by a hash.

Class numbers run from 0; the last class is the end of a text, and no token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError, UnknownNameError

NAMES = ("character", "byte")


class Tokeniser(ABC):
    """A text as class numbers and back.

    Attributes:
        tokens: how many tokens there are; the class of this number is the end of a text.
    """

    tokens: int

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Class numbers of ``text``.

        Raises:
            AnydiffError: something in the text has no token.
        """

    @abstractmethod
    def decode(self, classes: Sequence[int]) -> str:
        """The text of class numbers below :attr:`tokens`."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """16 hexadecimal digits that name the vocabulary."""

    @property
    def end(self) -> int:
        """The class that ends a text."""
        return self.tokens


class Characters(Tokeniser):
    """One class per character.

    Args:
        vocabulary: the characters, each once.

    Raises:
        AnydiffError: no character, or one twice.
    """

    def __init__(self, vocabulary: str) -> None:
        if not vocabulary or len(set(vocabulary)) < len(vocabulary):
            raise AnydiffError(
                f"vocabulary has {len(vocabulary)} characters, {len(set(vocabulary))} of them different; give each "
                "character once, and at least one."
            )
        self.vocabulary, self.tokens = vocabulary, len(vocabulary)
        self._numbers = {character: number for number, character in enumerate(vocabulary)}

    def encode(self, text: str) -> list[int]:
        """One number per character."""
        try:
            return [self._numbers[character] for character in text]
        except KeyError as error:
            place = text.index(error.args[0])
            raise AnydiffError(
                f"character {error.args[0]!r} at place {place} of the text {_short(text)!r} is none of the "
                f"{self.tokens} of the vocabulary; replace it, or take the tokeniser 'byte'."
            ) from None

    def decode(self, classes: Sequence[int]) -> str:
        """The characters."""
        return "".join(self.vocabulary[number] for number in classes)

    @property
    def hash(self) -> str:
        """Of the characters in their order."""
        return content_hash("character", self.vocabulary)[:16]


class Bytes(Tokeniser):
    """The 256 bytes of UTF-8: every text has tokens. Bytes that are no UTF-8 decode to U+FFFD."""

    tokens = 256

    def encode(self, text: str) -> list[int]:
        """The bytes."""
        return list(text.encode("utf-8"))

    def decode(self, classes: Sequence[int]) -> str:
        """The text of the bytes."""
        return bytes(classes).decode("utf-8", errors="replace")

    @property
    def hash(self) -> str:
        """One for all."""
        return content_hash("byte")[:16]


def make_tokeniser(name: str, vocabulary: str | None) -> Tokeniser:
    """The tokeniser called ``name``.

    Raises:
        UnknownNameError: no such tokeniser.
        AnydiffError: a vocabulary that is missing, or given where there is none to choose.
    """
    if name not in NAMES:
        raise UnknownNameError("tokeniser", name, NAMES)
    if name == "byte":
        if vocabulary is not None:
            raise AnydiffError("vocabulary is given, but the tokeniser 'byte' has the 256 bytes; leave it out.")
        return Bytes()
    if vocabulary is None:
        raise AnydiffError("vocabulary is missing; give the characters of the tokeniser 'character' as one text.")
    return Characters(vocabulary)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
