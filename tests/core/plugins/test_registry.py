"""The registry: names, lazy references, options checked against signatures."""

from __future__ import annotations

import sys

import pytest

from anydiff.errors import AnydiffError, PluginError, UnknownNameError
from anydiff.registry import KINDS, Entry, Registry, check_options


def entry(name, kind="solvers", plugin="mine", reference="json:dumps", **metadata):
    return Entry(kind, name, "help", reference, plugin, metadata)


def registry_of(*entries):
    made = Registry()
    for each in entries:
        made.add(each.plugin, [each])
    return made


def test_suggests_the_nearest_name():
    made = registry_of(entry("ddim", plugin="anydiff"), entry("heun", plugin="anydiff"))
    with pytest.raises(UnknownNameError, match="unknown solver 'ddin'; did you mean 'ddim'"):
        made.get("solvers", "ddin")
    with pytest.raises(UnknownNameError, match="No plugin named 'weather' is installed"):
        made.get("solvers", "weather/x")
    with pytest.raises(UnknownNameError, match="did you mean 'solvers'"):
        made.names("solver")


def test_adding_is_all_or_nothing():
    made = registry_of(entry("ddim", plugin="anydiff"))
    with pytest.raises(PluginError, match="taken by the core"):
        made.add("mine", [entry("mine/one"), entry("ddim")])
    assert made.names("solvers") == ["ddim"]
    with pytest.raises(PluginError, match="registered twice"):
        made.add("mine", [entry("mine/one"), entry("mine/one")])
    assert not made.of_plugin("mine")


def test_the_same_name_in_two_kinds_is_no_clash():
    made = registry_of(entry("mine"), entry("mine", kind="paths"))
    assert made.names("solvers") == made.names("paths") == ["mine"]
    made.remove("mine")
    assert not any(made.names(kind) for kind in KINDS)


def test_entries_load_lazily_and_failures_name_plugin_and_fix():
    sys.modules.pop("colorsys", None)
    made = registry_of(entry("mine/a", reference="colorsys:rgb_to_hsv"), entry("mine/b", reference="absent_module:x"))
    assert "colorsys" not in sys.modules
    assert made.load("solvers", "mine/a")(1, 1, 1) == (0.0, 0.0, 1)
    with pytest.raises(PluginError, match=r"solver 'mine/b' of plugin 'mine'.*provides 'absent_module'.*doctor mine"):
        made.load("solvers", "mine/b")
    with pytest.raises(PluginError, match="has no attribute 'absent'"):
        entry("mine/c", reference="json:absent").load()


def test_a_module_that_exits_when_used_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "zoo_exits_late.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="SystemExit"):
        entry("mine/x", reference="zoo_exits_late:x").load()


def test_build_checks_option_names():
    made = registry_of(entry("ddim", plugin="anydiff", reference="fractions:Fraction"))
    assert made.build("solvers", "ddim", numerator=1, denominator=2) == 0.5
    with pytest.raises(
        UnknownNameError, match="unknown option of solver 'ddim': 'denominater'; did you mean 'denominator'"
    ):
        made.build("solvers", "ddim", denominater=2)


def test_build_names_a_missing_option_and_passes_kind_and_name():
    def target(kind, name, *, extra=0):
        return kind, name, extra

    with pytest.raises(AnydiffError, match="solver 'x' needs the option 'name'"):
        check_options(target, "solver 'x'", {"kind": 1})
    made = registry_of(entry("mine", reference=f"{__name__}:keyed"))
    sys.modules[__name__].keyed = target
    assert made.build("solvers", "mine", kind=1, name=2) == (1, 2, 0)
    check_options(lambda **anything: None, "x", {"whatever": 1})
