"""The guard for all readers: one sentence for whatever a library raises, and bounds before anything is granted."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc

import numpy as np
import pytest

from anydiff.data import reading as guard
from anydiff.data.json_objects import json_depth
from anydiff.data.reading import (
    check_declared_size,
    check_file_size,
    finite,
    parse_json,
    parse_yaml,
    read_json,
    read_text,
    read_yaml,
    reading,
    text_lines,
)
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError


class LibraryError(Exception):
    """An error of a library that nobody knows."""


@pytest.mark.parametrize(
    "error",
    [
        OSError("bad magic"),
        ValueError("x"),
        KeyError("name"),
        struct.error("short"),
        EOFError(),
        TypeError("no"),
        RecursionError(),
        MemoryError(),
        OverflowError("big"),
        LibraryError("own"),
        AssertionError(),
    ],
)
def test_whatever_a_library_raises_is_one_sentence_with_file_and_fix(error):
    with (
        pytest.raises(FileFormatError, match=r"^'a\.nc' .*write it with xarray\.$"),
        reading("a.nc", "a NetCDF file", "write it with xarray"),
    ):
        raise error


def test_the_sentence_names_reason_and_line_and_keeps_the_cause():
    with (
        pytest.raises(
            FileFormatError, match=r"^line 3 of 'a\.csv' cannot be read as numbers \(odd row\); fix it\.$"
        ) as e,
        reading("a.csv", "numbers", "fix it", line=3),
    ):
        raise ValueError("odd\n  row.")
    assert isinstance(e.value.__cause__, ValueError)


def test_our_own_sentences_and_interruptions_pass():
    own = NonFiniteError("mine")
    with pytest.raises(NonFiniteError) as e, reading("a", "b", "c"):
        raise own
    assert e.value is own
    with pytest.raises(KeyboardInterrupt), reading("a", "b", "c"):
        raise KeyboardInterrupt


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with (
        pytest.raises(AnydiffError, match=r"cannot read .*No such file.*check the path") as e,
        reading(tmp_path / "no", "a file", "x"),
    ):
        open(tmp_path / "no").close()
    assert not isinstance(e.value, FileFormatError)


def test_sizes_of_files_and_folders_are_bounded(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    (tmp_path / "b").write_bytes(b"x" * 5)
    assert check_file_size(tmp_path / "a", 10) == 10
    assert check_file_size(tmp_path, 15) == 15
    with pytest.raises(FileFormatError, match=r"has 15 bytes, but a store may have 14; split it"):
        check_file_size(tmp_path, 14, "store")
    with pytest.raises(AnydiffError, match="cannot read"):
        check_file_size(tmp_path / "no", 1)


def test_declared_sizes_are_bounded_by_the_file_and_by_the_machine(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    path.write_bytes(b"x" * 6000)
    check_declared_size(512 << 20, path, "its array 'x'")
    with pytest.raises(
        FileFormatError, match=r"a\.h5' has 6,000 bytes, but its array 'x' asks for 7,700,000,000 bytes"
    ):
        check_declared_size(7_700_000_000, path, "its array 'x'")
    with pytest.raises(FileFormatError, match="asks for"):
        check_declared_size(-8, path, "its array 'x'")
    check_declared_size(1 << 30, path, "its array 'x'", stored=1 << 20)  # what zeros compress to
    monkeypatch.setattr(guard, "_machine_bytes", lambda: 1 << 29)
    with pytest.raises(FileFormatError, match="this machine has 536,870,912 bytes"):
        check_declared_size(1 << 30, path, "its array 'x'", stored=1 << 29)


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfname\n")
    assert read_text(path, 100) == "name\n"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FileFormatError, match=r"cannot be read as a text file .*save it as UTF-8"):
        read_text(path, 100)
    with pytest.raises(FileFormatError, match="may have 1"):
        read_text(path, 1)


def test_lines_are_numbered_and_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n  \nfour")
    assert list(text_lines(path, "lines")) == [(1, "one"), (4, "four")]
    path.write_bytes(b"one\n\xff\n")
    with pytest.raises(FileFormatError, match=r"line 2 of '.*a\.jsonl' cannot be read as lines"):
        list(text_lines(path, "lines"))
    monkeypatch.setattr(guard, "MAX_LINE_BYTES", 4)
    path.write_bytes(b"one\nfour\n")
    with pytest.raises(FileFormatError, match=r"line 2 of .* is longer than 4 bytes"):
        list(text_lines(path, "lines"))


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_deep_json_is_refused(depth):
    with pytest.raises(FileFormatError, match=r"line 2 of 'a\.json' is nested more than 64 deep"):
        parse_json(nested(depth), "a.json", line=2)


def test_depth_is_counted_outside_strings_and_through_escapes():
    assert json_depth(nested(64).encode()) == 64
    text = json.dumps({"a": ["[" * 99, '\\"' + "{" * 99, "\\"], "b": [[1]]})
    assert json_depth(text.encode()) == 3
    assert parse_json(text, "a.json") == json.loads(text)


def test_json_is_read_as_json_reads_it_or_refused_with_the_place(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None]}
    with pytest.raises(FileFormatError, match=r"'b\.json' cannot be read as JSON \(Expecting value: line 1"):
        parse_json("[1,", "b.json")
    with pytest.raises(FileFormatError, match="cannot be read as JSON"):
        parse_json("1" * 5000, "b.json")  # more digits than Python makes a number of


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.timing
def test_a_yaml_alias_bomb_is_refused_at_once_and_in_little_memory():
    assert len(bomb(20)) < 1500
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FileFormatError, match=r"^'r\.yaml' holds more than 100,000 values once its YAML references"):
        parse_yaml(bomb(20), "'r.yaml'")
    assert time.perf_counter() - start < 2
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_references_and_merges_of_reasonable_size_are_read():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]", "x") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": [{"x": 1, "y": 2}, {"x": 1, "y": 2}],
    }
    assert parse_yaml("", "x") is None
    assert parse_yaml("0.5", "x") == 0.5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", r"is not YAML \(.*line 1.*\); correct it"),
        ("a: &a [*a]", "reference to what it stands in"),
        (nested(65), "nested more than 64 deep"),
        (nested(5000), "nested too deeply"),
        ("\n".join([f"a{k}: &a{k} [{f'*a{k - 1}' if k else 'x'}]" for k in range(99)]), "nested more than 64 deep"),
        ("steps: 10\nx: 1\nsteps: 20", r"names the key 'steps' twice \(line 3\)"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML .*could not determine a constructor"),
        ("a: " + "1" * 5000, "is not YAML"),
        ("a: !!timestamp x", "is not YAML"),
        ("{[1]: 2}", "is not YAML .*unhashable"),
        ("a: \x00", "is not YAML"),
        ("x" * (257 << 10), "262,144 are allowed"),
    ],
)
def test_bad_yaml_is_one_sentence(text, sentence):
    with pytest.raises(FileFormatError, match=rf"^'r\.yaml' .*{sentence}"):
        parse_yaml(text, "'r.yaml'")


def test_a_yaml_file_is_read_or_named(tmp_path):
    (tmp_path / "a.yaml").write_text("a: ü", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": "ü"}
    (tmp_path / "b.yaml").write_text("a: [")
    with pytest.raises(FileFormatError, match=r"b\.yaml' is not YAML"):
        read_yaml(tmp_path / "b.yaml")
    with pytest.raises(AnydiffError, match=r"cannot read .*no\.yaml"):
        read_yaml(tmp_path / "no.yaml")


def test_numbers_are_finite_and_real_or_refused():
    assert finite([[1, 2]], "x", "f").tolist() == [[1, 2]]
    assert finite([True], "x", "f").dtype == bool
    values = np.ones((2, 3))
    values[1, 2] = np.inf
    with pytest.raises(
        NonFiniteError, match=r"array 'o' of 'f' has 1 of 6 values that are not finite, the first at \(1, 2\)"
    ):
        finite(values, "array 'o'", "f")
    with pytest.raises(FileFormatError, match="complex"):
        finite(np.ones(2, dtype=complex), "x", "f")
    for bad in (["a"], [None], [[1], [1, 2]], [{}], np.array(["2020"], dtype="M8[D]")):
        with pytest.raises(FileFormatError, match="x"):
            finite(bad, "x", "f")


def test_two_entries_of_one_name_are_two_readings_of_one_file():
    with pytest.raises(FileFormatError, match="'annotations' stands twice in one object"):
        parse_json('{"annotations": [1], "other": 2, "annotations": []}', "a.json")
