"""Each check is the only one that notices its mutant; the plugins they are made of pass."""

from __future__ import annotations

import pytest
from faults import FAULTS
from mutants import EXTRA, MUTANTS, WRITTEN

from anydiff.testing import check_plugin
from anydiff.testing.kit import COMPLETE, all_checks


def make(site, plugin):
    """Write the correct plugin and return the folder of its module."""
    kind = plugin.partition(" ")[0]
    if kind in WRITTEN:
        site.write("mutant", **WRITTEN[kind])
        return site.folder / "src" / "anydiff_mutant"
    folder = site.scaffold("mutant", kind)
    if plugin == "domain":  # two steps of training would take most of the time
        text = (folder / "__init__.py").read_text()
        change(folder / "__init__.py", text[text.index("@hookimpl\ndef register_recipes") :], "")
    return folder


def change(path, old, new):
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new, 1))


def failures(report):
    return {outcome.check for outcome in report.failed}


@pytest.mark.parametrize("plugin", ["domain with recipe", "solver", "metric", "guidance", *WRITTEN])
def test_the_plugin_without_a_defect_passes(site, plugin):
    make(site, plugin)
    report = check_plugin("mutant")
    assert report.ok, report.failed


@pytest.mark.parametrize(("check", "plugin", "file", "old", "new"), MUTANTS, ids=[each[0] for each in MUTANTS])
def test_the_check_alone_notices_its_mutant(site, check, plugin, file, old, new):
    folder = make(site, plugin)
    change(folder / f"{file}.py", old, new)
    if check in EXTRA:
        second, old, new = EXTRA[check]
        change(folder / f"{second}.py", old, new)
    report = check_plugin("mutant")
    assert failures(report) == {check}, report.failed
    assert not report.ok


def test_every_check_has_a_mutant():
    assert {each.id for each in all_checks()} | {COMPLETE} == {each[0] for each in (*MUTANTS, *FAULTS)}
