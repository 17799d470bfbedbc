"""Packages that are not always installed: one sentence says how to get them, in every plugin the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import anydiff
from anydiff.domains.kit import missing, require
from anydiff.errors import AnydiffError

REPOSITORY = Path(anydiff.__file__).parents[3]


def test_what_is_installed_is_imported() -> None:
    assert require("json", "reading", "nothing") is sys.modules["json"]


@pytest.mark.parametrize("absent", [False, True])
def test_what_is_not_installed_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch, absent: bool) -> None:
    if absent:
        monkeypatch.setitem(sys.modules, "nowhere_to_be_found", None)
    with pytest.raises(AnydiffError) as told:
        require("nowhere_to_be_found", "reading DICOM", "mine[dicom]", instead="give NIfTI")
    assert str(told.value) == (
        "reading DICOM needs nowhere_to_be_found, which is not installed; run `pip install 'mine[dicom]'`, or give "
        "NIfTI."
    )


def test_what_is_installed_and_broken_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_library.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AnydiffError, match=r"which cannot be imported \(No module named 'nowhere_to_be_found'\); run"):
        require("broken_library", "reading DICOM", "mine[dicom]")
    assert "two lines" in str(missing("a", "b", "c", reason="two\n  lines"))


def test_no_plugin_has_a_form_of_its_own() -> None:
    """An import that fails and an advice to install stand together in the kit alone."""
    own = re.compile(r"except \(?(ImportError|ModuleNotFoundError)[^\n]*\n\s+raise AnydiffError\([^)]*pip install")
    files = [*(REPOSITORY / "plugins").rglob("src/**/*.py"), *(REPOSITORY / "core" / "src").rglob("*.py")]
    assert not [str(file) for file in files if own.search(file.read_text())]
