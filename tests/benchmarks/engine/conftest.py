"""The toy domain, installed once and loaded into this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_site import install


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from anydiff_benchmarks.engine.worker import forget

    folder = tmp_path_factory.mktemp("toy")
    yield folder, install(folder, tmp_path_factory.getbasetemp() / "first toy")
    forget()  # the process with the held-out data knows this folder only


@pytest.fixture
def toy(site, monkeypatch):
    """The folder of the toy domain, which is the only plugin."""
    from anydiff.plugins import forget

    folder, environment = site
    monkeypatch.syspath_prepend(str(folder))
    for name in ("ANYDIFF_HOME", "ANYDIFF_PLUGINS"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("ANYDIFF_PLUGINS_DIR", raising=False)
    forget()
    yield folder
    forget()
    for module in [name for name in sys.modules if name.startswith("anydiff_toy")]:
        del sys.modules[module]
