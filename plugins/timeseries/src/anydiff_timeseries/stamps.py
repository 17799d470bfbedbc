"""Time stamps from text: only what has one reading is read; the others must be told by a format."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pandas as pd

from anydiff.errors import AnydiffError, FileFormatError

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "D": "days"}
"""What numbers since 1970-01-01 may count."""

ZONES = ("UTC", "drop")

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}(:\d{2}(:\d{2}([.,]\d{1,9})?)?)?)?)?(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_QUARTER = re.compile(r"\d{4}-?Q[1-4]", re.ASCII)
_NUMERIC_DATE = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})([T ]\d{1,2}:\d{2}(:\d{2})?)?", re.ASCII)


def shown(text: str) -> str:
    """``text`` in quotes for a sentence, cut where it is long."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}..."


def is_stamp(text: str) -> bool:
    """Whether ``text`` can be a time stamp or a number, and so is hardly the name of a column."""
    patterns = (_NUMBER, _ISO, _QUARTER, _NUMERIC_DATE)
    return any(pattern.fullmatch(text.strip()) for pattern in patterns)


def parse_stamps(
    texts: Sequence[str],
    where: str,
    date_format: str | None = None,
    day_first: bool | None = None,
    zone: str | None = None,
) -> pd.DatetimeIndex:
    """The time stamps that ``texts`` spell, with their zone if they have one.

    Args:
        texts: ISO 8601 (``2024-05-01 13:00``), quarters (``2024Q1``) or dates such as 13/01/2024 where only one order
            of day and month fits all.
        where: they stand, for errors: ``"column 'when' of 'load.csv'"``.
        date_format: a format of ``strftime`` (``"%d.%m.%y"``), or the unit of numbers since 1970: ``"s"``, ``"ms"``,
            ``"us"``, ``"ns"`` or ``"D"``.
        day_first: whether 01/02/2024 is the first of February.
        zone: ``"UTC"`` converts stamps with an offset to UTC; ``"drop"`` takes their local clock.

    Raises:
        FileFormatError: an empty or unreadable stamp, or one that can be read in two ways.
    """
    texts = [text.strip() for text in texts]
    if "" in texts:
        raise FileFormatError(f"{where} has no time stamp in row {texts.index('') + 1}; drop such rows.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _parsed(texts, where, date_format, day_first, zone)
    except AnydiffError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0][:120].split(". You might")[0]
        raise FileFormatError(f"{where} holds time stamps that cannot be read ({reason}); correct them.") from None
    return _in_zone(found, where, zone)


def _parsed(
    texts: Sequence[str], where: str, date_format: str | None, day_first: bool | None, zone: str | None
) -> pd.DatetimeIndex:
    if date_format in UNITS:
        return _since_1970(texts, where, date_format)
    if date_format is not None:
        return _index(pd.to_datetime(list(texts), format=date_format, utc=zone == "UTC"), where)
    if all(map(_ISO.fullmatch, texts)):
        return _index(pd.to_datetime(list(texts), format="ISO8601", utc=zone == "UTC"), where)
    if all(map(_QUARTER.fullmatch, texts)):
        periods = pd.PeriodIndex([text.replace("-", "") for text in texts], freq="Q")
        return pd.DatetimeIndex(periods.to_timestamp(), freq=None)
    if all(map(_NUMERIC_DATE.fullmatch, texts)):
        return _day_or_month_first(texts, where, day_first)
    odd = next((text for text in texts if not _ISO.fullmatch(text)), texts[0])
    if all(map(_NUMBER.fullmatch, texts)):
        raise FileFormatError(
            f"{where} holds numbers such as {shown(odd)}, which have no unit; give date_format: 's', 'ms', 'us', 'ns' "
            "or 'D' where they count from 1970, or how they are written, '%Y%m%d' say."
        )
    raise FileFormatError(
        f"{where} holds {shown(odd)}, which is no time stamp of ISO 8601 (2024-05-01 13:00); write it so, or give "
        "date_format, '%d %b %Y' say."
    )


def _since_1970(texts: Sequence[str], where: str, unit: str) -> pd.DatetimeIndex:
    if odd := next((text for text in texts if not _NUMBER.fullmatch(text)), None):
        raise FileFormatError(
            f"{where} holds {shown(odd)}, but date_format says {UNITS[unit]} since 1970; give a format."
        )
    whole = [int(text) if text.lstrip("+-").isdigit() else float(text) for text in texts]
    return pd.DatetimeIndex(pd.to_datetime(whole, unit=unit))


def _day_or_month_first(texts: Sequence[str], where: str, day_first: bool | None) -> pd.DatetimeIndex:
    found: dict[bool, pd.DatetimeIndex] = {}
    for first in (True, False) if day_first is None else (day_first,):
        # Written out as ISO, so that no library guesses.
        written = [_iso(text, first) for text in texts]
        try:
            found[first] = pd.DatetimeIndex(pd.to_datetime(written, format="ISO8601"))
        except ValueError:
            continue
    if not found:
        how = {None: "neither", True: "not as", False: "not as"}[day_first]
        order = "day first nor month first" if day_first is None else ("day first" if day_first else "month first")
        raise FileFormatError(
            f"{where} holds dates such as {shown(texts[0])} that can be read {how} {order}; correct them."
        )
    if len(found) == 2 and not found[True].equals(found[False]):
        odd = int((found[True] != found[False]).argmax())
        raise FileFormatError(
            f"{where} holds {texts[odd]!r}, which is {found[True][odd]:%-d %B} or {found[False][odd]:%-d %B}; give "
            "day_first: true or false."
        )
    return next(iter(found.values()))


def _iso(text: str, day_first: bool) -> str:
    match = _NUMERIC_DATE.fullmatch(text)
    assert match is not None
    one, two, year, clock = match[1], match[3], match[4], match[5] or ""
    day, month = (one, two) if day_first else (two, one)
    clock = f" {clock[1:].zfill(8 if match[6] else 5)}" if clock else ""
    return f"{year}-{month.zfill(2)}-{day.zfill(2)}{clock}"


def _index(found: Any, where: str) -> pd.DatetimeIndex:
    if not isinstance(found, pd.DatetimeIndex):
        raise FileFormatError(f"{where} mixes offsets from UTC; give zone: UTC to convert them, or zone: drop.")
    return found


def _in_zone(found: pd.DatetimeIndex, where: str, zone: str | None) -> pd.DatetimeIndex:
    if zone is not None and zone not in ZONES:
        raise AnydiffError(f"zone is {zone!r}, but must be 'UTC' (convert) or 'drop' (take the local clock).")
    if found.tz is None:
        return found
    if zone == "drop":
        return found.tz_localize(None)
    if zone == "UTC":
        return found.tz_convert("UTC")
    if found.tz.utcoffset(None) != timedelta(0):
        raise FileFormatError(
            f"{where} has the offset {found.tz} from UTC, whose clock may change; give zone: UTC to convert them, or "
            "zone: drop to take their local clock."
        )
    return found
