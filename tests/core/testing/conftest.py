"""Plugins written into a folder on sys.path, as pip would leave them, and loaded alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from anydiff.plugins import forget, report_to
from anydiff.templates import write_plugin

METADATA = "Metadata-Version: 2.1\nName: anydiff-{0}\nVersion: 0.1.0\nRequires-Dist: anydiff>=0.1,<0.2\n"


class Site:
    """One such folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch

    def scaffold(self, name: str, kind: str) -> Path:
        """Write a skeleton, make it importable, and return the module's folder."""
        package = write_plugin(name, kind, self.folder)
        self.install(name, package / "src")
        return package / "src" / f"anydiff_{name}"

    def write(self, name: str, **files: str) -> None:
        """Make a plugin of the given modules."""
        module = self.folder / "src" / f"anydiff_{name}"
        module.mkdir(parents=True)
        for file, text in files.items():
            (module / f"{file}.py").write_text(text)
        self.install(name, module.parent)

    def install(self, name: str, source: Path) -> None:
        info = source / f"anydiff_{name}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.format(name))
        (info / "entry_points.txt").write_text(f"[anydiff]\n{name} = anydiff_{name}\n")
        self.monkeypatch.syspath_prepend(str(source))
        self.monkeypatch.setenv("ANYDIFF_PLUGINS", name)
        forget()

    def install_again(self) -> None:
        """Forget what was loaded, as a new process would."""
        for module in [name for name in sys.modules if name.startswith("anydiff_mutant")]:
            del sys.modules[module]
        forget()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A fresh folder, a state folder of its own, and nothing loaded before or after."""
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ANYDIFF_PLUGINS_DIR", raising=False)
    # The trial of new plugins has tests of its own; here it would be one more process for each defect.
    monkeypatch.setattr("anydiff.plugins.state.tried", lambda name, version, fingerprint: True)
    before = set(sys.modules)
    report_to(lambda sentence: None)
    yield Site(tmp_path, monkeypatch)
    report_to(None)
    monkeypatch.undo()
    forget()
    for module in set(sys.modules) - before:
        if module.startswith("anydiff_"):
            del sys.modules[module]
