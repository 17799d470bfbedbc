"""What a calibration leaves: one safetensors file with the values by (calls, guidance), scores, cost and identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from anydiff.data.described import read_described
from anydiff.data.reading import parse_json
from anydiff.errors import AnydiffError, FileFormatError, NotApplicableError
from anydiff.files import write_atomic

METADATA = "anydiff-calibration"
FORMAT = 3
"""What is written: arrays of any type, each once, and the nodes of each entry. Read as well are format 1, which has
float64 alone, and format 2, which says no nodes."""


@dataclass(frozen=True)
class Entry:
    """What was found for one number of calls and one guidance.

    Attributes:
        nfe: network calls.
        guidance: the guidance's text; empty for none.
        values: arrays by name; empty where the winner was no better on fresh noise, which is then the baseline.
        dropped: the winner was no better on fresh noise.
        search: squared distance on the search's noises of the winner, and of the baseline there: its mean over the
            samples, or what the method compares (:attr:`anydiff.calibration.Method.statistic`).
        fresh: the same on fresh noises.
        ratio: winner over baseline on fresh noises, with its 95 % interval (paired bootstrap).
        calls: network calls of the search, each of all noises together, with those of the exact trajectory and of
            statistics; what several entries share is counted in each.
        seconds: of the clock.
        nodes: times of its plan; empty for a dropped one, and where the file is of an earlier format.
    """

    nfe: int
    guidance: str
    values: Mapping[str, NDArray[Any]]
    dropped: bool
    search: tuple[float, float]
    fresh: tuple[float, float]
    ratio: tuple[float, float, float]
    calls: int
    seconds: float
    nodes: tuple[float, ...] = ()


@dataclass
class Artefact:
    """Entries of one method for one model.

    Attributes:
        method: its registered name.
        options: its options.
        setting: seed and numbers of noises of the search.
        identity: what it belongs to: weights, recipe, path, shape, and so on; refused elsewhere.
        entries: in the order of their search.
        command: that makes it again.
    """

    method: str
    options: dict[str, Any]
    setting: dict[str, int]
    identity: dict[str, str]
    entries: list[Entry] = field(default_factory=list)
    command: str = ""

    def entry(self, nfe: int, guidance: str) -> Entry:
        """The entry for so many calls under this guidance.

        Raises:
            NotApplicableError: there is none; names those that there are.
        """
        for each in self.entries:
            if (each.nfe, each.guidance) == (nfe, guidance):
                return each
        there = ", ".join(f"{each.nfe} calls with {each.guidance or 'no guidance'}" for each in self.entries) or "none"
        raise NotApplicableError(
            f"the calibration has nothing for {nfe} calls with {guidance or 'no guidance'}, but for: {there}; sample "
            "with one of those, or calibrate for this."
        )

    def require(self, identity: Mapping[str, str]) -> None:
        """Raise an :class:`AnydiffError` unless it belongs to what ``identity`` says; names the first difference."""
        for name in dict.fromkeys((*self.identity, *identity)):
            own, other = self.identity.get(name, "(none)"), identity.get(name, "(none)")
            if own != other:
                raise AnydiffError(
                    f"the calibration was made for the {name} {own}, but this is {other}; calibrate this model "
                    "(`anydiff calibrate`)."
                )

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that it holds, the clock's times and the command apart: what samples can depend on."""
        timeless = replace(self, entries=[replace(each, seconds=0.0) for each in self.entries], command="")
        return hashlib.sha256(timeless._bytes()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write it, atomically; the same content is the same bytes."""
        write_atomic(path, self._bytes())

    def _bytes(self) -> bytes:
        """The file."""
        arrays: dict[str, NDArray[Any]] = {}
        rows = []
        for number, each in enumerate(self.entries):
            row = {name: getattr(each, name) for name in each.__dataclass_fields__ if name != "values"}
            row["arrays"] = {}
            for name, value in each.values.items():
                own = np.array(value, order="C")  # whole: what is stored is not a view
                same = (k for k, v in arrays.items() if (v.dtype, v.shape) == (own.dtype, own.shape)
                        and v.tobytes() == own.tobytes())  # fmt: skip
                row["arrays"][name] = key = next(same, f"{number}.{name}")
                arrays[key] = own
            rows.append(row)
        body = {"format": FORMAT, "method": self.method, "options": self.options, "setting": self.setting,
                "identity": self.identity,
                "entries": rows, "command": self.command}  # fmt: skip
        return bytes(safetensors.numpy.save(arrays, {METADATA: json.dumps(body, sort_keys=True)}))

    @classmethod
    def load(cls, path: str | Path) -> Artefact:
        """What :meth:`save` wrote.

        Raises:
            FileFormatError: the file is missing, truncated, foreign, or of another version.
        """
        text, arrays = read_described(path, "numpy", METADATA, "calibration", "make one with `anydiff calibrate`")
        body = parse_json(text, path, "a calibration", "make it with `anydiff calibrate`")
        found = body.get("format") if isinstance(body, dict) else body
        if found not in range(1, FORMAT + 1):
            raise FileFormatError(
                f"{str(path)!r} is a calibration of format {found!r}, but this anydiff reads 1 to {FORMAT}; make it "
                "anew."
            )
        try:
            return cls._of(body, arrays)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise FileFormatError(
                f"{str(path)!r} is a calibration whose description is damaged ({type(error).__name__}: {error}); make "
                "it anew with `anydiff calibrate`."
            ) from error

    @classmethod
    def _of(cls, body: dict[str, Any], arrays: dict[str, Any]) -> Artefact:
        entries = []
        for number, row in enumerate(body["entries"]):
            first = {k.partition(".")[2]: k for k in arrays if k.split(".")[0] == str(number)}  # of format 1
            rest = {key: value for key, value in row.items() if key != "arrays"}
            mine = {name: arrays[key] for name, key in row.get("arrays", first).items()}
            pairs = {name: tuple(row[name]) for name in ("search", "fresh", "ratio")}
            pairs["nodes"] = tuple(row.get("nodes", ()))  # formats 1 and 2 have none
            entries.append(Entry(**{**rest, **pairs, "values": mine}))
        return cls(body["method"], body["options"], body["setting"], body["identity"], entries, body["command"])
