"""Each planted fault is noticed by its check, and by no other; the plugins they are planted in pass."""

from __future__ import annotations

import contextlib

import faults
import pytest
from test_mutants import change, failures, make

from anydiff.errors import AnydiffError
from anydiff.plugins import forget
from anydiff.tasks.lock import write_lock
from anydiff.testing import check_plugin


def build(site, plugin):
    """The correct plugin; return the folder of its module."""
    if plugin in faults.WRITTEN:
        site.write("mutant", **faults.WRITTEN[plugin])
        return site.folder / "src" / "anydiff_mutant"
    folder = make(site, "domain with recipe" if plugin == "task" else plugin)
    if plugin == "task":
        init = folder / "__init__.py"
        init.write_text(init.read_text() + faults.REGISTER_TASK)
        (folder / "tasks.py").write_text(faults.TASK)
    return folder


def lock(site):
    """Publish the task as it is now; one that names what is not there has nothing to publish."""
    with contextlib.suppress(AnydiffError):
        write_lock("mutant/rows@1")
    site.install_again()


@pytest.mark.parametrize("plugin", [*faults.WRITTEN, "task"])
def test_the_plugin_without_a_fault_passes(site, plugin):
    build(site, plugin)
    if plugin == "task":
        lock(site)
    report = check_plugin("mutant")
    assert report.ok, report.failed


@pytest.mark.parametrize(
    ("check", "plugin", "name", "places"),
    faults.FAULTS,
    ids=[f"{each[0]}: {each[2]}" for each in faults.FAULTS],
)
def test_the_check_alone_notices_the_fault(site, check, plugin, name, places):
    folder = build(site, plugin)
    if check == "task.locked":
        lock(site)
    for file, old, new in places:
        change(folder / f"{file}.py", old, new)
    forget()
    if plugin == "task" and check != "task.locked":
        lock(site)
    report = check_plugin("mutant")
    assert failures(report) == {check}, report.failed
