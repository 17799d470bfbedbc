"""Texts in files: ``.jsonl`` with one text a line, ``.txt`` with one text, a folder of ``.txt`` files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from anydiff.data.reading import Place, parse_json, read_text, text_lines
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_folder, check_suffix, write_atomic

SUFFIXES = (".jsonl", ".txt", "")
LIMIT = 64 << 20
"""Bytes of one text."""
_ADVICE = 'write one object a line: {"text": "To be, or not to be"}'


def read_texts(path: str | Path) -> list[str]:
    """The texts of a ``.txt`` file (one), of all ``.txt`` files of a folder by name, or of a ``.jsonl`` file.

    Raises:
        AnydiffError: nothing there to read, or an ending that is none of these.
        FileFormatError: not UTF-8, or a line of a ``.jsonl`` file that is no object with a ``text``.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(each for each in place.iterdir() if each.suffix.lower() == ".txt")
        if not files:
            raise AnydiffError(f"the folder {str(place)!r} holds no .txt file; name one that does.")
        return [read_text(file, LIMIT) for file in files]
    if place.suffix.lower() == ".jsonl":
        return [_line(place, number, line) for number, line in text_lines(place, "a file of texts", _ADVICE)]
    if place.suffix.lower() == ".txt":
        return [read_text(place, LIMIT)]
    raise AnydiffError(f"{str(place)!r} is no .txt file, no .jsonl file and no folder; name one of these.")


def _line(path: Path, number: int, line: str) -> str:
    where = f"line {number} of {str(path)!r}"
    found = parse_json(line, Place(where), "a JSON object", _ADVICE)
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        raise FileFormatError(f"{where} is no object with a text under 'text'; {_ADVICE}.")
    return str(found["text"])


def write_texts(objects: Sequence[str], path: str | Path) -> None:
    """Write texts as the ending of ``path`` says; a ``.txt`` file holds one.

    Raises:
        AnydiffError: another ending, several texts for one ``.txt`` file, or it cannot be written.
    """
    suffix = check_suffix(path, SUFFIXES, "texts")
    if suffix == ".jsonl":
        write_atomic(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in objects))
    elif suffix == ".txt":
        if len(objects) != 1:
            raise AnydiffError(
                f"{len(objects)} texts are to be written to {str(path)!r}, which holds one; choose a .jsonl file or a "
                "folder."
            )
        write_atomic(path, objects[0])
    else:
        digits = len(str(max(len(objects) - 1, 0)))
        with atomic_folder(path) as folder:
            for number, text in enumerate(objects):
                (folder / f"{number:0{digits}d}.txt").write_bytes(text.encode("utf-8"))
