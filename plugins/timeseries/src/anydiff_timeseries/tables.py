"""CSV files of series, read as they are written: what could be read in two ways must be told (:class:`Layout`)."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anydiff.data.reading import check_file_size, reading
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff_timeseries.series import ITEM, TARGET, TIMESTAMP
from anydiff_timeseries.stamps import is_stamp, parse_stamps, shown

MOST_BYTES = 1 << 28
ADVICE = "write it with pandas.DataFrame.to_csv(path, index=False)"

MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "NaT")
)
"""What pandas reads as missing."""

SENTINELS = (-999.0, -9999.0, -99999.0, -999999.0, 1e20, 9.969209968386869e36)
"""Numbers that many instruments and formats write where they have no value."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How a CSV file is to be read, where the file itself does not say.

    Attributes:
        stamps: the column of time stamps; by default ``timestamp``, else the first.
        value: the column of numbers; by default ``target``, else the only other one.
        item: the column that names each row's series; by default ``item_id`` where there is one.
        header: whether the first row holds names; without, columns are called ``"0"``, ``"1"`` and so on.
        date_format: a format of ``strftime``, or the unit of numbers since 1970 (``"s"``, ``"ms"``, ``"D"``).
        day_first: whether 01/02/2024 is the first of February.
        zone: ``"UTC"`` converts stamps with an offset; ``"drop"`` takes their local clock.
        separator: between columns.
        decimal: ``"."`` or ``","``.
        encoding: of the text.
        missing: numbers that stand for missing values, ``(-999,)``; ``()`` says that all numbers are values.
    """

    stamps: str | None = None
    value: str | None = None
    item: str | None = None
    header: bool | None = None
    date_format: str | None = None
    day_first: bool | None = None
    zone: str | None = None
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    missing: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("stamps", "value", "item"):
            if (column := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(column))
        for name in ("header", "day_first"):
            if getattr(self, name) not in (None, True, False):
                raise AnydiffError(f"{name} is {getattr(self, name)!r}, but must be true or false.")
        if self.decimal not in (".", ","):
            raise AnydiffError(f"decimal is {self.decimal!r}, but must be '.' or ','.")
        if not isinstance(self.separator, str) or len(self.separator) != 1 or self.separator in '"\r\n':
            raise AnydiffError(f"separator is {self.separator!r}, but must be one character such as ';'.")
        if self.missing is not None:
            given = self.missing if isinstance(self.missing, Sequence) else (self.missing,)
            if any(isinstance(one, (bool, str)) or not isinstance(one, (int, float)) for one in given):
                raise AnydiffError(f"missing is {self.missing!r}, but must be a list of numbers, [-999] say.")
            object.__setattr__(self, "missing", tuple(float(one) for one in given))

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Layout:
        """A layout from options by name; an unknown one is refused."""
        known = [one.name for one in fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownNameError("option of a CSV file", str(name), known)
        return cls(**options)


def read_table(path: Path, layout: Layout) -> dict[str, list[str]]:
    """The columns of a CSV file by name, as text.

    Raises:
        AnydiffError: the file cannot be read.
        FileFormatError: it is no CSV file, another separator or encoding, has no header, doubled names, or rows of
            different lengths.
    """
    check_file_size(path, MOST_BYTES, "CSV file")
    with reading(path, "a CSV file", ADVICE):
        text = _decoded(path.read_bytes(), path, layout)
        rows = [row for row in csv.reader(StringIO(text, newline=""), delimiter=layout.separator, strict=True) if row]
    if not rows:
        raise FileFormatError(f"{str(path)!r} is empty, so it is no CSV file; {ADVICE}.")
    names = _names(rows[0], path, layout)
    if layout.header is not False:
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise FileFormatError(
                f"row {number} of {str(path)!r} has {len(row)} cells, but there are {len(names)} columns; correct it, "
                "or give the separator (and decimal: ',' where numbers have a comma)."
            )
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def columns(table: Mapping[str, Sequence[str]], path: Path, layout: Layout) -> tuple[str, str, str | None]:
    """The names of the columns of stamps, values, and series (None where the file holds one).

    Raises:
        FileFormatError: a column that is not there, or several that may hold the values.
    """
    names = list(table)
    for name in (layout.stamps, layout.value, layout.item):
        if name is not None and name not in names:
            raise FileFormatError(f"{str(path)!r} has no column {name!r}; it has {listed(names)}.")
    if len(names) < 2:
        raise FileFormatError(
            f"{str(path)!r} has 1 column, {shown(names[0])}, but needs time stamps and values; give the separator, ';' "
            "say, or add a column."
        )
    item = layout.item if layout.item is not None else (ITEM if ITEM in names else None)
    stamps = layout.stamps
    if stamps is None:
        stamps = TIMESTAMP if TIMESTAMP in names else next(name for name in names if name != item)
    value = layout.value
    if value is None:
        others = [name for name in names if name not in (stamps, item)]
        value = TARGET if TARGET in others else others[0] if len(others) == 1 else None
    if value is None:
        raise FileFormatError(
            f"{str(path)!r} has the columns {listed(names)}, so it is not clear which one holds the "
            "values; give value: its name (and item: the column that names the series, if it holds several)."
        )
    if len({stamps, value, item}) < 3:
        raise FileFormatError(f"column {value!r} of {str(path)!r} cannot be stamps, values and names at once.")
    return stamps, value, item


def stamps_of(texts: Sequence[str], name: str, path: Path, layout: Layout) -> pd.DatetimeIndex:
    """The time stamps of a column."""
    where = f"column {name!r} of {str(path)!r}"
    return parse_stamps(texts, where, layout.date_format, layout.day_first, layout.zone)


def numbers_of(texts: Sequence[str], name: str, path: Path, layout: Layout) -> NDArray[np.float64]:
    """The numbers of a column, NaN where one is missing.

    Raises:
        FileFormatError: a cell that is no number, or is infinite, or may mean that there is no value.
    """
    values = np.empty(len(texts))
    for row, text in enumerate(texts):
        cell = text.strip()
        if cell in MISSING:
            values[row] = np.nan
            continue
        written = cell
        if layout.decimal == ",":
            written = cell.replace(",", ".") if "." not in cell else ""
        if not _NUMBER.fullmatch(written):
            raise FileFormatError(_no_number(cell, row, name, path))
        values[row] = float(written)
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise FileFormatError(
            f"row {row + 1} of column {name!r} of {str(path)!r} holds {shown(texts[row])}, which is infinite; leave "
            "missing values empty."
        )
    return without_sentinels(values, f"column {name!r} of {str(path)!r}", layout.missing)


def without_sentinels(values: NDArray[np.float64], where: str, missing: Sequence[float] | None) -> NDArray[np.float64]:
    """``values`` with NaN for the numbers that stand for missing values.

    Raises:
        FileFormatError: ``missing`` is None, and a number such as -999 is there.
    """
    if missing is None:
        for sentinel in SENTINELS:
            count = int(np.isclose(values, sentinel, rtol=1e-6, atol=0).sum())
            if count:
                raise FileFormatError(
                    f"{where} holds {sentinel:g} in {count} of {len(values)} rows, which often stands for a missing "
                    f"value; give missing: [{sentinel:g}], or missing: [] where it is a value."
                )
        return values
    found = [np.isclose(values, one, rtol=1e-6, atol=0) for one in missing]
    return np.where(np.any(found, axis=0), np.nan, values) if found else values


def _decoded(content: bytes, path: Path, layout: Layout) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") and not layout.encoding.lower().startswith("utf-16"):
        raise FileFormatError(f"{str(path)!r} is UTF-16; give encoding: utf-16.")
    try:
        text = content.decode("utf-8-sig" if layout.encoding.lower() in ("utf-8", "utf8") else layout.encoding)
    except LookupError:
        raise AnydiffError(f"encoding is {layout.encoding!r}, but must be one of Python's, 'latin-1' say.") from None
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{str(path)!r} is no text of encoding {layout.encoding!r} (byte {error.start} is "
            f"{content[error.start]:#x}); give encoding: latin-1, or whichever it has."
        ) from None
    if "\0" in text:
        raise FileFormatError(f"{str(path)!r} holds zero bytes, so it is no CSV file; {ADVICE}.")
    return text


def _names(row: Sequence[str], path: Path, layout: Layout) -> list[str]:
    if layout.header is False:
        return [str(number) for number in range(len(row))]
    if layout.header is None and any(is_stamp(cell) for cell in row[:1]):
        raise FileFormatError(
            f"the first row of {str(path)!r} begins with {shown(row[0])}, so it may be data and not names; give "
            "header: false or true."
        )
    if len(row) == 1:
        for separator in (";", "\t", "|"):
            if separator in row[0]:
                raise FileFormatError(
                    f"{str(path)!r} has {separator!r} between its columns; give separator: {separator!r} (and decimal: "
                    "',' where numbers have a comma)."
                )
    names = [cell.strip() for cell in row]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise FileFormatError(f"{str(path)!r} has two columns named {shown(twice)}; rename one.")
    return names


def listed(names: Sequence[str]) -> str:
    """The first twelve ``names`` for a sentence."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(map(shown, names[:12])) + more


def _no_number(cell: str, row: int, name: str, path: Path) -> str:
    says = f"row {row + 1} of column {name!r} of {str(path)!r} holds {shown(cell)}, which is"
    if _INFINITE.fullmatch(cell):
        return f"{says} infinite; leave missing values empty."
    if "," in cell:
        return f"{says} no number as computers write it; give decimal: ',' for a decimal comma, and no other marks."
    return f"{says} no number; leave missing values empty."
