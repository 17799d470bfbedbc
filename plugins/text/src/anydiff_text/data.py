"""Windows of texts as training and test data."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split, content_hash, domain_of_data
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff_text.domain import Texts

TEST_SHARE = 0.1
"""The last tenth of each work is held out."""


@functools.cache
def works() -> Mapping[str, str]:
    """The 42 works of Shakespeare by their names, sorted."""
    with (
        resources.files("anydiff_text").joinpath("shakespeare.zip").open("rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        return {name.removesuffix(".txt"): archive.read(name).decode("ascii") for name in sorted(archive.namelist())}


@functools.cache
def characters() -> str:
    """Every character of the works, in the order of their codes."""
    return "".join(sorted(set().union(*works().values())))


class Shakespeare(Dataset):
    """Windows of ``domain.length`` tokens of Shakespeare's works; the last tenth of each work is the test split.

    Windows of a work begin every ``stride`` tokens, and the last one ends where its part of the work ends, so that
    every token is in one. A part that is shorter than a window is one text with the end class.

    Args:
        split: ``train`` or ``test``.
        stride: tokens from one window to the next; None for windows that do not overlap.
        size: the first so many windows, spread over all works; None for all.
        domain: the recipe's, or options of :class:`~anydiff_text.domain.Texts`.
    """

    name = "text/works"

    def __init__(
        self,
        split: Split = "train",
        stride: int | None = None,
        size: int | None = None,
        domain: Domain | dict[str, Any] | None = None,
    ) -> None:
        check_split(split)
        self.split = split
        self._domain = domain_of_data(Texts, domain, _defaults(domain))
        self.stride = self._domain.length if stride is None else natural_number("stride", stride)
        rows = list(_windows(split, self._domain, self.stride))
        if size is not None:
            size = natural_number("size", size)
            if size > len(rows):
                raise AnydiffError(f"size is {size}, but the {split} split has {len(rows)} windows; lower it.")
            rows = [rows[number * len(rows) // size] for number in range(size)]
        self._starts = rows

    @property
    def domain(self) -> Texts:
        """The codec of the windows."""
        return self._domain

    @property
    def statistics(self) -> Mapping[str, Any]:
        """The vocabulary, where tokens are characters."""
        return {"vocabulary": characters()} if self._domain.tokeniser == "character" else {}

    @functools.cached_property
    def hash(self) -> str:
        """sha256 of the works, the tokeniser and the places of all windows."""
        about = f"{self.split};{self._domain.length};{self._domain.tokens.hash};{self._starts};"
        return content_hash(about, *(f"{name}:{text}" for name, text in works().items()))

    @property
    def dependence(self) -> int:
        """Windows of one work that overlap."""
        return min((self._domain.length - 1) // self.stride + 1, len(self) - 1)

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States int64 ``[B, length]``, given nothing."""
        length, end = self._domain.length, self._domain.tokens.end
        states = torch.full((len(indices), length), end, dtype=torch.int64)
        for row, index in enumerate(indices):
            work, start = self._starts[index]
            part = _part(self.split, work, self._domain)[start : start + length]
            states[row, : len(part)] = part
        return states, UNCONDITIONAL


def training_tokens(tokeniser: str, vocabulary: str | None) -> list[Tensor]:
    """The class numbers of the training part of every work, int64."""
    return [_numbers("train", work, tokeniser, vocabulary) for work in works()]


def _defaults(domain: object) -> dict[str, Any]:
    """Options of a domain that is not said whole: the vocabulary of the works, where tokens are characters."""
    said = domain if isinstance(domain, Mapping) else {}
    return {"vocabulary": characters()} if said.get("tokeniser", "character") == "character" else {}


def _windows(split: str, domain: Texts, stride: int) -> Iterator[tuple[str, int]]:
    """(work, first token within its part) of every window."""
    for work in works():
        last = max(len(_part(split, work, domain)) - domain.length, 0)
        yield from ((work, start) for start in range(0, last, stride))
        yield work, last


def _part(split: str, work: str, domain: Texts) -> Tensor:
    return _numbers(split, work, domain.tokeniser, domain.vocabulary)


@functools.cache
def _numbers(split: str, work: str, tokeniser: str, vocabulary: str | None) -> Tensor:
    """The class numbers of a part of a work, int64."""
    text = works()[work]
    cut = len(text) - int(len(text) * TEST_SHARE)
    domain = Texts(1, tokeniser, vocabulary)
    return torch.tensor(domain.tokens.encode(text[:cut] if split == "train" else text[cut:]), dtype=torch.int64)
