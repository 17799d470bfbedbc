"""Plugins of one file for the tests of this folder, found for as long as a test or a fixture needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anydiff.plugins import forget, use_folder

EXAMPLES = Path(__file__).parents[3] / "examples"
WAVES = Path(__file__).parent / "latent_plugin"


@contextmanager
def found(name: str, folder: Path, temporary: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """The plugin ``name`` of ``folder`` (or several, by commas) and no other; what is patched besides is undone.

    One state folder serves all: in a fresh one each test would try the plugin in a process of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYDIFF_HOME", str(temporary.getbasetemp() / "home"))
        patch.setenv("ANYDIFF_PLUGINS", name)
        patch.setenv("ANYDIFF_PLUGINS_DIR", "")  # set before use_folder() adds to it, so that it is undone
        use_folder(folder)
        forget()
        yield patch
    forget()
