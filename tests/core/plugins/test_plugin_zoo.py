"""A broken plugin is named in one sentence with the fix, leaves nothing behind, and hurts nobody else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from bad_plugins import BAD

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.plugins import discover, forget, hooks, loaded, report_to, state, use_folder
from anydiff.plugins.calls import specifications
from anydiff.plugins.loader import _named_if_slow
from anydiff.plugins.probe import examine
from anydiff.registry import KINDS, registry


@pytest.mark.parametrize("name", BAD)
def test_bad_plugin_is_reported_and_rolled_back(site, name):
    bad = BAD[name]
    site.install(name, bad.code, requires=bad.requires)
    site.install("a-good")
    site.install("z-good")
    told = []
    report_to(told.append)
    known = registry()

    assert len(told) == 1
    assert "\n" not in told[0]
    assert told[0].startswith(f"plugin {name!r} (anydiff-{name} 1.0)")
    assert told[0].endswith((".", "?"))
    for fragment in (*bad.says, f"`anydiff plugins disable {name}`"):
        assert fragment in told[0]
    # nothing of it remains
    assert not known.of_plugin(name)
    assert not any(name in entry for kind in KINDS for entry in known.names(kind))
    assert not any(hooks().implementation(name, hook) for hook in specifications())
    assert f"zoo_{name.replace('-', '_')}" not in sys.modules
    status = {plugin.name: plugin.status for plugin in loaded().plugins}
    assert status.pop(name) in ("failed", "refused")
    # and everything else works
    assert status == {"a-good": "loaded", "z-good": "loaded"}
    assert known.load("solvers", "a-good/euler")() == "euler of a-good"
    assert known.build("solvers", "z-good/euler") == "euler of z-good"
    assert known.get("paths", "edm").plugin == "anydiff"
    # who asks for something of it learns why it is not there
    with pytest.raises(UnknownNameError) as error:
        known.get("solvers", f"{name}/euler")
    assert told[0] in str(error.value)


def test_a_failure_is_remembered_for_the_list_and_forgotten_when_repaired(site):
    site.install("flaky", "raise RuntimeError('today')")
    registry()
    assert "RuntimeError: today" in state.recall("flaky")["problem"]
    (site.folder / "zoo_flaky.py").write_text(
        "from anydiff.hookspecs import hookimpl\n"
        "@hookimpl\ndef register_solvers(register): register('flaky', 'it works', 'zoo_flaky:f')\n"
        "# longer than before, so that the cached bytecode is stale\n"
    )
    forget()
    assert registry().get("solvers", "flaky").help == "it works"
    last = state.recall("flaky")
    assert last["problem"] == ""
    assert last["hooks"] == ["register_solvers"]
    assert last["provides"] == {"solvers": [["flaky", "it works"]]}


def test_two_distributions_with_one_name_are_both_refused(site):
    site.install("twin", distribution="anydiff-one", module="zoo_one")
    site.install("twin", distribution="anydiff-two", module="zoo_two")
    plugins = discover().plugins
    assert [plugin.status for plugin in plugins] == ["refused", "refused"]
    assert "offered by 'anydiff-one' and 'anydiff-two'" in plugins[0].problem
    assert "`pip uninstall anydiff-two`" in plugins[0].problem
    assert not registry().of_plugin("twin")


def test_one_distribution_found_twice_is_one_plugin(site):
    site.install("twin", version="1.0", module="zoo_one")
    site.install("twin", version="2.0", module="zoo_two")
    assert len(discover().plugins) == 1


def test_damaged_metadata_hide_nobody_else(site):
    site.install("good")
    broken = site.folder / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "entry_points.txt").write_text("[anydiff]\nthis is not an entry point\n")
    found = discover()
    assert [plugin.name for plugin in found.plugins] == ["good"]
    assert len(found.notes) == 1
    assert "broken-1.0.dist-info" in found.notes[0]
    assert "reinstall" in found.notes[0]


@pytest.mark.parametrize(
    ("requires", "status", "asked"),
    [
        ("anydiff", "enabled", ""),
        ("", "enabled", ""),
        ("anydiff-images>=99", "enabled", ""),
        ("anydiff[pictures]>=0.1", "enabled", ">=0.1"),
        ("AnyDiff (>=99)", "refused", ">=99"),
        ("anydiff>=99 ; extra == 'future'", "enabled", ""),
        ("anydiff @@ nonsense", "refused", ""),
    ],
)
def test_range_of_core_versions(site, requires, status, asked):
    site.install("ranged", requires=requires)
    (plugin,) = discover().plugins
    assert (plugin.status, plugin.requires) == (status, asked)


@pytest.mark.parametrize("name", ["anydiff", "core", "a b", "a/b", "1st"])
def test_reserved_and_malformed_plugin_names(site, name):
    site.install(name, module="zoo_reserved", distribution="anydiff-reserved")
    (plugin,) = discover().plugins
    assert plugin.status == "refused"
    assert "rename" in plugin.problem


def test_discovery_imports_nothing(site):
    for name in ("one", "two"):
        site.install(name, "raise RuntimeError('imported')")
    assert [plugin.status for plugin in discover().plugins] == ["enabled", "enabled"]


def test_selection_by_environment(site, monkeypatch):
    site.install("one")
    site.install("two")
    monkeypatch.setenv("ANYDIFF_PLUGINS", "two, tow")
    told = []
    report_to(told.append)
    assert {entry.plugin for entry in registry().entries("solvers")} >= {"two"}
    assert not registry().of_plugin("one")
    assert told == ["ANYDIFF_PLUGINS names 'tow', which is not installed; did you mean 'two'?"]
    with pytest.raises(UnknownNameError, match="left out by ANYDIFF_PLUGINS"):
        registry().get("solvers", "one/euler")
    monkeypatch.setenv("ANYDIFF_PLUGINS", "")
    forget()
    assert not registry().of_plugin("two")
    assert registry().names("paths")


def test_disable_and_enable_persist(site):
    site.install("one")
    state.disable("one")
    assert not registry().of_plugin("one")
    assert "`anydiff plugins enable one`" in loaded().plugins[0].problem
    state.enable("one")
    forget()
    assert registry().of_plugin("one")


def test_single_files(site, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    code = (
        "from anydiff.hookspecs import hookimpl\n"
        "@hookimpl\ndef register_solvers(register): register('{0}/s', 'mine', '{0}:make')\n"
        "def make(): return '{0}'\n"
    )
    folder.joinpath("zoo_single.py").write_text(code.format("zoo_single"))
    folder.joinpath("json.py").write_text(code.format("json"))
    folder.joinpath("_private.py").write_text("raise RuntimeError")
    use_folder(folder)
    assert registry().build("solvers", "zoo_single/s") == "zoo_single"
    problems = [plugin.problem for plugin in loaded().plugins if plugin.problem]
    assert len(problems) == 1
    assert "hides the module 'json'; rename json.py" in problems[0]
    import json

    assert json.dumps([]) == "[]"
    forget()
    assert registry().build("solvers", "zoo_single/s") == "zoo_single"
    path = folder / "zoo_single.py"
    (version,) = {plugin.version for plugin in discover().plugins if plugin.source == str(path)}
    os.utime(path, (0, 0))
    assert version not in {plugin.version for plugin in discover().plugins if plugin.source == str(path)}
    with pytest.raises(AnydiffError, match=r"nowhere.*not a folder"):
        use_folder(tmp_path / "nowhere")
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(tmp_path / "nowhere"))
    assert "correct ANYDIFF_PLUGINS_DIR" in discover().notes[0]


def test_what_a_plugin_prints_does_not_reach_stdout(site, capsys):
    site.install(
        "chatty", "print('hello')\nfrom anydiff.hookspecs import hookimpl\n@hookimpl\ndef training_step(): pass"
    )
    registry()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_interrupting_an_import_names_the_plugin_and_is_no_crash(site):
    # Only here and not in its trial: the user interrupts this process.
    code = "import sys\nif 'pytest' in sys.modules: raise KeyboardInterrupt\n"
    site.install("slow", f"{code}from anydiff.hookspecs import hookimpl\n@hookimpl\ndef training_step(): pass\n")
    with pytest.raises(KeyboardInterrupt) as error:
        registry()
    assert "while importing plugin 'slow'" in error.value.__notes__[0]
    assert state.crashed("slow", "1.0") is None


def test_a_slow_import_is_named_while_it_lasts(site, monkeypatch, capsys):
    import time

    monkeypatch.setattr("anydiff.plugins.loader.SLOW_SECONDS", 0.01)
    site.install("slow")
    with _named_if_slow(discover().plugins[0]):
        time.sleep(0.2)
    assert "still importing plugin 'slow'" in capsys.readouterr().err


def test_the_state_folder_is_left_alone_when_nothing_changes(site):
    site.install("one")
    registry()
    path = Path(state.home()) / "plugins" / "last" / "one.json"
    before = path.stat().st_mtime_ns
    forget()
    registry()
    assert path.stat().st_mtime_ns == before


def test_a_refused_plugin_can_be_switched_off_and_is_then_silent(site, monkeypatch):
    site.install("old", requires="anydiff>=99")
    told = []
    report_to(told.append)
    (refused,) = discover().plugins
    assert "`anydiff plugins disable old`" in refused.problem
    state.disable("old")
    (off,) = discover().plugins
    assert (off.status, off.sound, off.problem) == ("disabled", False, refused.problem)
    state.enable("old")
    monkeypatch.setenv("ANYDIFF_PLUGINS", "")
    assert discover().plugins[0].status == "excluded"
    registry()
    assert told == []
    (diagnosis,) = examine([off])
    assert (diagnosis.works, diagnosis.healthy, diagnosis.problem) == (False, True, refused.problem)
