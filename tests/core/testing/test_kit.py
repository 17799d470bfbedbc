"""The kit's own promises: expected failures, skips with reasons, the three faces, the core's own entries."""

from __future__ import annotations

import json
import os

import pytest
from mutants import WRITTEN

from anydiff.errors import UnknownNameError
from anydiff.testing import check_plugin, conformance
from anydiff.testing.report import EXPECTED, FAILED, PASSED, SKIPPED

EULER = ("solver.py", "h * (first + 3 * second) / 4", "h * (first + 1e-9 * second)")


def broken(site, declared=""):
    """A solver whose order is less than it registers, and what it declares about that."""
    folder = site.scaffold("mutant", "solver")
    file, old, new = EULER
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    init = folder / "__init__.py"
    init.write_text(init.read_text() + declared)


@pytest.mark.parametrize("name", ["solver.order", "solver.order[mutant]"])
def test_a_declared_failure_is_expected_and_keeps_its_reason(site, name):
    broken(site, f"ANYDIFF_EXPECTED_FAILURES = {{{name!r}: 'it is Euler'}}\n")
    report = check_plugin("mutant")
    assert report.ok
    (outcome,) = [each for each in report.outcomes if each.status == EXPECTED]
    assert outcome.id == "solver.order[mutant]"
    assert "it is Euler" in outcome.reason
    assert "1.0" in outcome.reason  # what was measured


@pytest.mark.parametrize(
    ("name", "check"), [("solver.exact", "solver.exact"), ("solver.oder", "kit.complete"), ("x", "kit.complete")]
)
def test_a_declaration_that_does_not_hold_is_a_failure(site, name, check):
    broken(site, f"ANYDIFF_EXPECTED_FAILURES = {{'solver.order': 'Euler', {name!r}: 'no reason'}}\n")
    report = check_plugin("mutant")
    assert {each.check for each in report.failed} == {check}


def test_a_declaration_needs_a_reason(site):
    broken(site, "ANYDIFF_EXPECTED_FAILURES = {'solver.order': ' '}\n")
    assert {each.check for each in check_plugin("mutant").failed} == {"kit.complete"}


def test_skips_carry_reasons_and_do_not_count_as_run(site):
    site.scaffold("mutant", "guidance")
    report = check_plugin("mutant")
    skipped = [each for each in report.outcomes if each.status == SKIPPED]
    assert skipped
    assert all(each.reason for each in skipped)
    assert report.ran == len(report.outcomes) - len(skipped)


def test_a_recipe_is_read_even_where_its_data_are_absent(site):
    folder = site.scaffold("mutant", "domain")
    data = folder / "data.py"
    data.write_text(data.read_text().replace('(self, split="train"', '(self, path, split="train"'))
    report = check_plugin("mutant")
    status = {each.id: each.status for each in report.outcomes}
    assert status["recipe.parses[mutant/small]"] == PASSED
    assert status["recipe.runs[mutant/small]"] == SKIPPED
    recipes = folder / "recipes.py"
    recipes.write_text(recipes.read_text().replace("0.8", "-0.8"))
    site.install_again()
    status = {each.id: each.status for each in check_plugin("mutant").outcomes}
    assert status["recipe.parses[mutant/small]"] == FAILED


@pytest.mark.parametrize(
    ("sentence", "status"),
    [("needs mujoco; `pip install mutant[rollouts]`.", SKIPPED), ("needs mujoco; `pip install mujoco`.", FAILED)],
)
def test_data_that_need_an_extra_may_be_absent_and_no_other(site, sentence, status):
    data = site.scaffold("mutant", "domain") / "data.py"
    text = data.read_text()
    begin = 'def __init__(self, split="train", count=1000):\n'
    assert begin in text
    raises = f"        from anydiff.errors import AnydiffError\n\n        raise AnydiffError({sentence!r})\n"
    data.write_text(text.replace(begin, begin + raises))
    found = {each.id.partition("[")[0]: each.status for each in check_plugin("mutant").outcomes}
    assert found["data.repeatable"] == status


@pytest.mark.parametrize("what", ["clean", "noise"])
def test_a_mask_that_the_loss_forgets_is_noticed(site, what):
    parts = WRITTEN["sets"]["parts"]
    changed = parts.replace("return loss", f"return loss + {what}.flatten(1).square().mean(1)")
    assert changed != parts
    site.write("mutant", __init__=WRITTEN["sets"]["__init__"], parts=changed)
    # What the clean state adds to the loss has an influence where the loss has no weight, too.
    expected = {"recipe.masked", "objective.weights"} if what == "clean" else {"recipe.masked"}
    assert {each.check for each in check_plugin("mutant").failed} == expected


@pytest.mark.parametrize("word", ["paired", "oracle"])
def test_a_metric_that_may_see_the_truth_says_so(site, word):
    folder = site.scaffold("mutant", "metric")
    metric, init = folder / "metric.py", folder / "__init__.py"
    paired = "return float((samples.states.double() - reference.states.double()).abs().mean()) + abs("
    metric.write_text(metric.read_text().replace("return abs(", paired))
    init.write_text(init.read_text().replace('example="anydiff_mutant.metric:example"', f"{word}=True"))
    report = check_plugin("mutant")
    assert report.ok, report.failed
    assert {each.check: each.status for each in report.outcomes}["metric.truth"] == SKIPPED


def test_an_unknown_plugin_is_named_with_the_nearest(site):
    site.scaffold("mutant", "solver")
    with pytest.raises(UnknownNameError, match="did you mean 'mutant'"):
        check_plugin("mutan")


def test_a_plugin_that_raises_anything_leaves_the_other_checks_running(site):
    folder = site.scaffold("mutant", "solver")
    text = (folder / "solver.py").read_text()
    (folder / "solver.py").write_text(text.replace("x = program.start()", "raise SystemExit('gone')"))
    report = check_plugin("mutant")
    assert {each.check for each in report.failed} > {"solver.exact", "solver.noise"}
    assert "SystemExit: gone" in next(each.reason for each in report.failed)
    assert report.count("passed") >= 6


def test_conformance_is_one_test_per_check(site):
    site.scaffold("mutant", "solver")
    test = conformance("mutant")
    (mark,) = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    names = mark.kwargs["ids"]
    assert len(names) == len(set(names)) >= 15
    assert "solver.order[mutant]" in names
    assert names[-1] == "kit.complete"


def test_the_command_and_the_pytest_option_say_what_the_function_says(site, monkeypatch, warm):
    def run(module, *arguments, folder):
        return warm(*arguments, module=module, env=dict(os.environ), cwd=folder, timeout=120)

    broken(site)
    monkeypatch.setenv("PYTHONPATH", str(site.folder / "anydiff-mutant" / "src"))
    report = check_plugin("mutant")
    done = run("anydiff", "check", "mutant", "--json", folder=site.folder)
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert not said["ok"]
    assert [(each["id"], each["status"]) for each in said["checks"]] == [(o.id, o.status) for o in report.outcomes]
    shown = run("anydiff", "check", "mutant", folder=site.folder)
    assert shown.returncode == 1
    assert "solver.order" in shown.stdout
    assert f"{report.ran} of {len(report.outcomes)} checks ran" in shown.stderr
    tested = run("pytest", "-q", "-p", "anydiff.testing.pytest_plugin", "--anydiff", "mutant", folder=site.folder)
    assert tested.returncode == 1
    assert f"1 failed, {report.count('passed')} passed" in tested.stdout
    assert "mutant:solver.order[mutant]" in tested.stdout
    assert report.count(FAILED) == 1


def test_a_check_without_a_docstring_goes_by_its_id(monkeypatch):
    from anydiff.testing import kit

    monkeypatch.setattr(kit, "CHECKS", [])

    @kit.check("mine.check")
    def bare(plugin, entry):
        pass

    assert kit.CHECKS[0].help == "mine.check"  # as under `python -OO`
