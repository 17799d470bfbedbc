"""The cache of containers, kept by pooch in the place of the platform: where it is and what is loaded when."""

from __future__ import annotations

import ast
import hashlib
import sys
from pathlib import Path

import pytest

import anydiff
from anydiff.data import cache, fetch
from anydiff.data.ledger import Container, LedgerRow
from anydiff.errors import AnydiffError

CONTENT = b"bytes of a container"


@pytest.fixture
def row() -> LedgerRow:
    digest = hashlib.sha256(CONTENT).hexdigest()
    container = Container("npm", "thing", "1.0", "thing-1.0.tgz", len(CONTENT), digest, ("a",))
    return LedgerRow("x/thing", "Thing", "MIT", "nowhere", container=container)


def test_nothing_but_a_fetch_loads_pooch() -> None:
    """Importing anydiff and starting a command load neither: both stand inside functions alone."""
    for path in Path(anydiff.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pooch", "platformdirs"} & {name.split(".")[0] for name in names}, path


@pytest.mark.skipif(sys.platform != "linux", reason="the rule of the XDG base directories")
def test_the_folder_is_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYDIFF_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert cache.data_folder() == tmp_path / "xdg" / "anydiff" / "data"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.data_folder() == tmp_path / ".local" / "share" / "anydiff" / "data"
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "own"))
    assert cache.data_folder() == tmp_path / "own" / "data"


def test_a_container_that_came_whole_is_moved_into_place_and_nothing_else_stays(
    row: LedgerRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path))
    monkeypatch.setattr(fetch, "_run_client", lambda container, staging, progress: _made(staging, CONTENT))
    path, there = fetch.get(row)
    assert (path.read_bytes(), there) == (CONTENT, False)
    assert [each.name for each in path.parent.iterdir()] == ["thing-1.0.tgz"]


def test_a_fetch_that_fails_leaves_what_was_there(
    row: LedgerRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path))
    assert row.container is not None
    place = cache.container_path(row.container)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another version")
    monkeypatch.setattr(fetch, "_run_client", lambda container, staging, progress: _made(staging, CONTENT[:-1] + b"X"))
    with pytest.raises(AnydiffError, match=r"has sha256 .*, but thing 1\.0 has"):
        fetch.get(row)
    assert place.read_bytes() == b"another version"
    assert [each.name for each in place.parent.iterdir()] == ["thing-1.0.tgz"]


def test_a_folder_that_cannot_be_written_is_told(
    row: LedgerRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "npm").write_text("a file where the folder should be")
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path))
    monkeypatch.setattr(fetch, "_run_client", lambda container, staging, progress: _made(staging, CONTENT))
    with pytest.raises(AnydiffError, match="set ANYDIFF_HOME to a folder you may write to"):
        fetch.get(row)


def _made(staging: Path, content: bytes) -> Path:
    staging.mkdir(parents=True, exist_ok=True)
    (staging / "thing-1.0.tgz").write_bytes(content)
    return staging / "thing-1.0.tgz"
