"""What all tests share; with ``--durations`` the seconds by folder, so that what has become slow is seen."""

from __future__ import annotations

import os
import shutil
import sys
from collections import defaultdict
from pathlib import PurePosixPath

import pytest
from warm import Warm

_SECONDS: dict[str, float] = defaultdict(float)
_TESTS: dict[str, set[str]] = defaultdict(set)


def pytest_collection_finish() -> None:
    """No compiled modules are written from here on: what a test writes twice in a second would be read stale."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called where the results are shown, whichever process ran the test; set-up and tear-down count."""
    folder = str(PurePosixPath(report.nodeid.partition("::")[0]).parent)
    _SECONDS[folder] += report.duration
    _TESTS[folder].add(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("durations") is None or not _SECONDS:
        return
    terminalreporter.section("seconds by folder")
    for folder, seconds in sorted(_SECONDS.items(), key=lambda pair: -pair[1]):
        terminalreporter.write_line(f"{seconds:8.1f} s  {len(_TESTS[folder]):5d} tests  {folder}")
    terminalreporter.write_line(f"{sum(_SECONDS.values()):8.1f} s  {sum(map(len, _TESTS.values())):5d} tests  together")


@pytest.fixture(scope="module", autouse=True)
def _own_variables():
    """What a module of tests leaves in anydiff's variables is taken back: no other module sees its plugin folders.

    :func:`anydiff.plugins.use_folder` writes its variable itself; ``monkeypatch`` undoes that only where it had set it.
    """
    before = _variables()
    yield
    if (after := _variables()) == before:
        return
    for name in after.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
    from anydiff.plugins import forget

    forget()


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("ANYDIFF_")}


@pytest.fixture(scope="session")
def tried(tmp_path_factory):
    """A state folder as a first command leaves it: what is installed was tried, which took a process of its own."""
    from anydiff.plugins import forget
    from anydiff.registry import registry

    folder = tmp_path_factory.mktemp("tried")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYDIFF_HOME", str(folder))
        patch.setenv("ANYDIFF_PLUGINS_DIR", "")
        patch.delenv("ANYDIFF_PLUGINS", raising=False)
        forget()
        assert registry().entries("solvers")
    forget()
    return folder


@pytest.fixture
def home(tried, tmp_path, monkeypatch):
    """A copy of it, the test's own, as the state folder of every command."""
    folder = shutil.copytree(tried, tmp_path / "home")
    monkeypatch.setenv("ANYDIFF_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def warm():
    """``python -m anydiff ...`` in a process of its own that need not import torch first; see :mod:`warm`."""
    server = Warm()
    yield server
    server.close()
