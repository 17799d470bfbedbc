"""New and changed plugins are tried in another process first: what dies or hangs there is quarantined."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from bad_plugins import ABORTS, HANGS, HEAD, REGISTERS

from anydiff.errors import AnydiffError
from anydiff.plugins import discover, forget, loaded, report_to, state, trial
from anydiff.plugins.discovery import fingerprint
from anydiff.registry import registry

IMPORTS = {"aborts": (ABORTS, "SIGABRT"), "hangs": (HANGS, "did not finish loading within 2 s")}
ALL = {**{name: (bad.code, bad.says[-1]) for name, bad in REGISTERS.items()}, **IMPORTS}


@pytest.fixture
def tries(monkeypatch):
    """How many plugins each trial was given."""
    seen = []
    real = trial._try

    def counting(plugins, seconds):
        seen.append([plugin.name for plugin in plugins])
        return real(plugins, seconds)

    monkeypatch.setattr(trial, "_try", counting)
    monkeypatch.setenv(trial.VARIABLE, "2")
    return seen


@pytest.mark.parametrize("name", ALL)
def test_it_is_quarantined_at_once_and_everything_else_works(site, tries, name):
    code, says = ALL[name]
    site.install("a-good")
    site.install(name, code)
    site.install("z-good")
    told = []
    report_to(told.append)
    assert registry().build("solvers", "a-good/euler") == "euler of a-good"
    assert registry().build("solvers", "z-good/euler") == "euler of z-good"
    status = {plugin.name: plugin.status for plugin in loaded().plugins}
    assert status == {"a-good": "loaded", name: "quarantined", "z-good": "loaded"}
    assert len(told) == 1
    assert told[0].startswith(f"plugin {name!r} (anydiff-{name} 1.0)")
    for fragment in (says, f"`anydiff plugins enable {name}`", f"`anydiff plugins disable {name}`"):
        assert fragment in told[0]
    # the next start, and every list, knows it without trying anything
    before = len(tries)
    forget()
    registry()
    assert len(tries) == before
    assert told == [told[0]] * 2
    (known,) = [plugin for plugin in discover().plugins if plugin.name == name]
    assert (known.status, known.problem) == ("quarantined", told[0])


def test_a_repaired_plugin_is_tried_again_and_an_enabled_one_too(site, tries):
    site.install("bad", ABORTS)
    registry()
    assert discover().plugins[0].status == "quarantined"
    state.enable("bad")
    assert discover().plugins[0].status == "enabled"
    forget()
    registry()
    assert discover().plugins[0].status == "quarantined"
    (site.folder / "zoo_bad.py").write_text(
        f"{HEAD}@hookimpl\ndef register_solvers(register): register('bad', 'repaired', 'zoo_bad:f')\n"
    )
    forget()
    assert registry().get("solvers", "bad").help == "repaired"
    assert tries == [["bad"]] * 3


def test_only_what_is_new_or_changed_is_tried(site, tries):
    site.install("one")
    site.install("two")
    registry()
    forget()
    registry()
    assert tries == [["one", "two"]]
    path = site.folder / "zoo_two.py"
    os.utime(path, (0, 0))
    forget()
    registry()
    assert tries == [["one", "two"], ["two"]]


def test_two_that_die_together_only_lose_the_second(site, tries):
    site.install("first", f"{HEAD}@hookimpl\ndef training_step(): pass\n")
    site.install("second", f"import os, sys\nif 'zoo_first' in sys.modules: os._exit(3)\n{HEAD}"
                 "@hookimpl\ndef training_step(): pass\n")  # fmt: skip
    registry()
    assert {plugin.name: plugin.status for plugin in loaded().plugins} == {"first": "loaded", "second": "quarantined"}


def test_the_fingerprint_is_of_every_file_of_a_package(tmp_path, monkeypatch):
    from anydiff.plugins.discovery import Plugin

    package = tmp_path / "zoo_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "inner" / "more.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = Plugin("package", "anydiff-package", "1.0", "zoo_package")
    before = fingerprint(plugin)
    assert fingerprint(plugin) == before
    (package / "inner" / "more.py").write_text("x = 22")
    assert fingerprint(plugin) != before
    assert "zoo_package" not in sys.modules


@pytest.mark.parametrize("text", ["no", "0", "-1", "inf", "nan"])
def test_the_limit_is_a_positive_number(monkeypatch, text):
    monkeypatch.setenv(trial.VARIABLE, text)
    with pytest.raises(AnydiffError, match=f"ANYDIFF_PLUGIN_SECONDS is '{text}'"):
        trial.limit()


SLOW = """
import sys, time
from anydiff.plugins import state
with state.importing("innocent", "1.0"):
    print("importing", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize(
    ("number", "quarantined"), [("SIGTERM", False), ("SIGINT", False), ("SIGHUP", False), ("SIGKILL", True)]
)
def test_who_was_being_imported_when_the_process_was_asked_to_end_is_not_blamed(site, number, quarantined):
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline().strip() == b"importing"
    process.send_signal(getattr(signal, number))
    code = process.wait(20)
    process.stdout.close()
    assert code != 0
    if number != "SIGINT":
        assert code == -getattr(signal, number)  # it ends as it would have without us
    assert (state.crashed("innocent", "1.0") is not None) == quarantined


@pytest.mark.timing
def test_lists_import_and_try_nothing(site, tries):
    for name, (code, _) in ALL.items():
        site.install(name, code)
    began = time.perf_counter()
    assert {plugin.status for plugin in discover().plugins} == {"enabled"}
    assert time.perf_counter() - began < 0.5
    assert tries == []


def test_a_relative_plugin_folder_works_from_any_folder(site, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "zoo_alone.py").write_text(
        f"{HEAD}@hookimpl\ndef register_solvers(register): register('zoo_alone', 'mine', 'zoo_alone:make')\n"
        "def make(): return 1\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", ".")
    monkeypatch.syspath_prepend("")  # as `python -m` does
    assert registry().build("solvers", "zoo_alone") == 1
    assert os.environ["ANYDIFF_PLUGINS_DIR"] == str(folder)
    monkeypatch.chdir("/")
    forget()
    assert registry().build("solvers", "zoo_alone") == 1
    sys.modules.pop("zoo_alone", None)


def test_the_command_hands_the_folder_on(tmp_path):
    (tmp_path / "zoo_alone.py").write_text(
        f"{HEAD}@hookimpl\ndef register_solvers(register): register('zoo_alone', 'mine', 'zoo_alone:make')\n"
    )
    environment = {**os.environ, "ANYDIFF_HOME": str(tmp_path / "home"), "ANYDIFF_PLUGINS": "zoo_alone"}
    command = [sys.executable, "-m", "anydiff", "--plugins-dir", ".", "plugins", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"works": true' in done.stdout
