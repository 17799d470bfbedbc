"""The guard that every reader of other people's files stands behind.

A reader wraps the calls of its library in :func:`reading`, so that whatever the library raises becomes one sentence
with file, reason and fix. What a file asks for is bounded before it is granted: its own size
(:func:`check_file_size`), the memory that its header declares (:func:`check_declared_size`), the depth of JSON and
YAML, the references of YAML. What comes out of a file is checked by :func:`finite`. A library that can hang is first
tried in a process of its own (:mod:`anydiff.data.trial`).

Nothing here imports torch, and NumPy and PyYAML are imported where they are used.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anydiff.data.json_objects import json_depth, without_repeats
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError

__all__ = [
    "MAX_YAML_BYTES",
    "Place",
    "check_declared_size",
    "check_file_size",
    "finite",
    "parse_json",
    "parse_yaml",
    "read_json",
    "read_text",
    "read_yaml",
    "reading",
    "text_lines",
]

if TYPE_CHECKING:
    import numpy as np
    import yaml
    from numpy.typing import ArrayLike, NDArray

Source = str | os.PathLike[str]


class Place(str):
    """A phrase that says where something stands (``frame 3 of 'a.mp4'``), given in place of a path."""

    __slots__ = ()


MAX_JSON_BYTES = 1 << 30
MAX_YAML_BYTES = 256 << 10
MAX_LINE_BYTES = 64 << 20
MAX_DEPTH = 64
"""Lists and tables inside one another, in JSON and YAML."""
MAX_YAML_NODES = 100_000
"""Values in a YAML document, where each reference (``*name``) counts as all that it stands for."""
FREE_BYTES = 512 << 20
"""Memory that any file may ask for, whatever its size."""
MAX_RATIO = 1100
"""Bytes in memory per byte of a file that asks for more than that; deflate cannot compress further than 1032 times."""


@contextlib.contextmanager
def reading(path: Source, what: str, advice: str, line: int | None = None) -> Iterator[None]:
    """Turn whatever is raised inside into one sentence about the file at ``path``; let :class:`AnydiffError` through.

    Args:
        path: the file or folder, for the sentence.
        what: what it should be, with its article: ``"a NetCDF file"``.
        advice: the fix, as a clause: ``"write it with xarray.Dataset.to_netcdf"``.
        line: number of the line that is read, counted from 1, in a file of lines.

    Raises:
        FileFormatError: anything but an operating system's refusal was raised inside, exhausted memory and stack
            included.
        AnydiffError: the file does not exist, is a folder, or may not be read.
    """
    where = located(path, line)
    try:
        yield
    except AnydiffError:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        # Libraries raise these for what they were given and for what a file names (a part of a Zarr group) alike.
        raise AnydiffError(f"cannot read {where}: {error.strerror or error}; check the path.") from error
    except MemoryError as error:
        raise FileFormatError(
            f"{where} asks for more memory than there is, so it is damaged or too large; {advice}."
        ) from error
    except RecursionError as error:
        raise FileFormatError(f"{where} is nested too deeply to be {what}; {advice}.") from error
    except Exception as error:  # every library has errors of its own
        raise FileFormatError(f"{where} cannot be read as {what} ({_reason(error)}); {advice}.") from error


def located(path: Source, line: int | None = None) -> str:
    """The name of a file for a sentence, with the line where one is given: ``line 3 of 'a.jsonl'``."""
    name = str(path) if isinstance(path, Place) else repr(os.fspath(path))
    return name if line is None else f"line {line} of {name}"


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200].rstrip(".;")
    return text if text else type(error).__name__


def check_file_size(path: Source, limit: int, what: str = "file", advice: str = "split it") -> int:
    """The size in bytes of the file at ``path``, or of all files below a folder.

    Raises:
        AnydiffError: it does not exist or may not be read.
        FileFormatError: it is larger than ``limit`` bytes.
    """
    try:
        size = _size(Path(path))
    except OSError as error:
        raise AnydiffError(f"cannot read {located(path)}: {error.strerror or error}; check the path.") from error
    if size > limit:
        raise FileFormatError(f"{located(path)} has {size:,} bytes, but a {what} may have {limit:,}; {advice}.")
    return size


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def check_declared_size(declared: int, path: Source, what: str, stored: int | None = None) -> None:
    """Refuse a file whose header asks for memory out of all proportion to its own size, before it is granted.

    Granted are 512 MiB to every file, and 1,100 bytes per stored byte to larger ones, up to the memory of the machine.

    Args:
        declared: bytes that reading would take.
        path: the file or folder.
        what: the part that asks, for the sentence: ``"its array 'x' of shape (9, 9)"``.
        stored: bytes on disk; of the whole file or folder by default.

    Raises:
        FileFormatError: too much.
    """
    if 0 <= declared <= FREE_BYTES:
        return
    stored = _size(Path(path)) if stored is None else stored
    machine = _machine_bytes()
    if declared < 0 or declared > MAX_RATIO * stored:
        raise FileFormatError(
            f"{located(path)} has {stored:,} bytes, but {what} asks for {declared:,} bytes of memory; it is damaged or "
            "made to exhaust memory: get it again, or write it without fill values."
        )
    if declared > machine:
        raise FileFormatError(
            f"{what} of {located(path)} asks for {declared:,} bytes, but this machine has {machine:,} bytes of memory; "
            "cut the file into parts."
        )


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not told on every system
        return 1 << 62


def read_text(path: Source, limit: int, what: str = "a text file", advice: str = "save it as UTF-8") -> str:
    """The content of a text file of at most ``limit`` bytes, UTF-8 with or without a byte order mark.

    Raises:
        AnydiffError: it does not exist or may not be read.
        FileFormatError: it is larger, or not UTF-8.
    """
    check_file_size(path, limit, what.removeprefix("an ").removeprefix("a "))
    with reading(path, what, advice):
        return Path(path).read_text(encoding="utf-8-sig")


def text_lines(path: Source, what: str, advice: str = "save it as UTF-8 text") -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank of a UTF-8 file, without its end.

    Raises:
        AnydiffError: the file does not exist or may not be read.
        FileFormatError: a line is longer than 64 MiB or not UTF-8.
    """
    with reading(path, what, advice):
        file = open(path, "rb")  # noqa: SIM115  (closed below; errors of the consumer are not the file's)
    with file:
        number = 0
        while True:
            number += 1
            with reading(path, what, advice, number):
                content = file.readline(MAX_LINE_BYTES + 1)
                if len(content) > MAX_LINE_BYTES:
                    raise FileFormatError(f"{located(path, number)} is longer than {MAX_LINE_BYTES:,} bytes; {advice}.")
                text = content.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            if not content:
                return
            if text.strip():
                yield number, text


# JSON ---------------------------------------------------------------------------------------------------------------


def read_json(path: Source, what: str = "a JSON file", advice: str = "get it again") -> Any:
    """The value of a JSON file; bounds and errors as :func:`parse_json` and :func:`read_text`."""
    return parse_json(read_text(path, MAX_JSON_BYTES, what, advice), path, what, advice)


def parse_json(
    text: str | bytes, path: Source, what: str = "JSON", advice: str = "get it again", line: int | None = None
) -> Any:
    """The value of a JSON text from the file at ``path``.

    Args:
        text: at most 1 GiB.
        path: where it stood, for the sentence.
        what: what it should be.
        advice: the fix.
        line: number of the line, in a file of lines.

    Raises:
        FileFormatError: it is too long, nested more than 64 deep, or not JSON.
    """
    where = located(path, line)
    if len(text) > MAX_JSON_BYTES:
        raise FileFormatError(f"{where} has {len(text):,} bytes of JSON, but {MAX_JSON_BYTES:,} are allowed; split it.")
    with reading(path, what, advice, line):
        content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if content.count(b"[") + content.count(b"{") > MAX_DEPTH and json_depth(content) > MAX_DEPTH:
            raise FileFormatError(f"{where} is nested more than {MAX_DEPTH} deep, so it is no {what}; {advice}.")
        return json.loads(text, object_pairs_hook=without_repeats)


# YAML ---------------------------------------------------------------------------------------------------------------


def read_yaml(path: Source, what: str = "a YAML file", advice: str = "correct it") -> Any:
    """The value of a YAML file of at most 256 KiB; bounds and errors as :func:`parse_yaml` and :func:`read_text`."""
    return parse_yaml(read_text(path, MAX_YAML_BYTES, what, advice), located(path), advice)


def parse_yaml(text: str, source: str, advice: str = "correct it") -> Any:
    """The value of a YAML text: plain data, never an object of a class.

    Args:
        text: at most 256 KiB.
        source: where it stood, as a sentence names it: ``"'recipe.yaml'"``, ``"--set 'a=b'"``.
        advice: the fix.

    Raises:
        FileFormatError: it is no YAML, too long, nested more than 64 deep, holds more than 100,000 values once its
            references are written out, or names one key of a table twice.
    """

    if len(text) > MAX_YAML_BYTES:
        raise FileFormatError(f"{source} has {len(text):,} characters of YAML, but {MAX_YAML_BYTES:,} are allowed.")
    loader = _yaml_loader()("")
    try:
        loader = _yaml_loader()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_yaml(node, source, advice)
        return loader.construct_document(node)
    except AnydiffError:
        raise
    except RecursionError as error:
        raise FileFormatError(f"{source} is nested too deeply for YAML; {advice}.") from error
    except Exception as error:  # yaml.YAMLError; ValueError and others for values that no type takes
        raise FileFormatError(f"{source} is not YAML ({_yaml_reason(error)}); {advice}.") from error
    finally:
        loader.dispose()


@functools.cache
def _yaml_loader() -> type[yaml.SafeLoader]:
    """YAML 1.1 as PyYAML reads it, but with ``1e-3`` for a number, as in YAML 1.2 and in Python; there it is a text."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def _yaml_reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return _reason(Exception(getattr(error, "problem", None) or str(error).partition("\n")[0])) + place


def _check_yaml(root: yaml.Node, source: str, advice: str) -> None:
    """Bound depth and size of a document whose references are written out, and refuse keys that are named twice."""
    known: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def visit(node: Any, depth: int) -> tuple[int, int]:
        """Values and depth of what hangs on ``node``, which stands ``depth`` deep."""
        if id(node) in open_nodes:
            raise FileFormatError(f"{source} has a YAML reference to what it stands in; {advice}.")
        size, height = known.get(id(node), (1, 0))
        if depth + height > MAX_DEPTH:
            raise FileFormatError(f"{source} is nested more than {MAX_DEPTH} deep; {advice}.")
        if id(node) in known:
            return size, height
        open_nodes.add(id(node))
        for child in _children(node, source):
            more, below = visit(child, depth + 1)
            size, height = size + more, max(height, below + 1)
            if size > MAX_YAML_NODES:
                raise FileFormatError(
                    f"{source} holds more than {MAX_YAML_NODES:,} values once its YAML references are written out; "
                    f"{advice}."
                )
        open_nodes.discard(id(node))
        known[id(node)] = (size, height)
        return size, height

    visit(root, 1)


def _children(node: Any, source: str) -> list[Any]:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                place = f"line {key.start_mark.line + 1}"
                raise FileFormatError(f"{source} names the key {key.value!r} twice ({place}); keep one of them.")
            seen.add((key.tag, key.value))
    return [part for pair in node.value for part in pair]


# Values -------------------------------------------------------------------------------------------------------------


def finite(values: ArrayLike, what: str, path: Source) -> NDArray[Any]:
    """``values`` as an array of real, finite numbers.

    Args:
        values: anything that NumPy makes an array of numbers or truth values of.
        what: what they are, for the sentence: ``"array 'observations'"``.
        path: the file they come from.

    Raises:
        FileFormatError: they are no numbers (text, objects, rows of unequal length), or complex ones.
        NonFiniteError: some are NaN or infinite; tells how many and where the first is.
    """
    import numpy as np

    with reading(path, "numbers", f"correct {what}"):
        array = np.asarray(values)
    check_real(array.dtype, what, path)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any():
            place = tuple(int(number) for number in np.unravel_index(int(np.argmax(bad)), array.shape))
            raise NonFiniteError(
                f"{what} of {located(path)} has {int(bad.sum())} of {array.size} values that are not finite, the first "
                f"at {place}; fill or remove them."
            )
    return array


def check_real(dtype: np.dtype[Any], what: str, path: Source) -> None:
    """Refuse a type that is no real number: complex numbers would be cut to their real part without a word."""
    if dtype.kind == "c":
        raise FileFormatError(f"{what} of {located(path)} holds complex numbers; store real and imaginary parts apart.")
    if dtype.kind not in "biuf":
        raise FileFormatError(f"{what} of {located(path)} holds {dtype}, but must hold numbers; correct it.")
