"""docs/methods.md is what the claims declare: paper, files of at most 300 lines, recipe, claim."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff_benchmarks.claims import methods
from anydiff_benchmarks.claims.base import load_claim, slugs
from anydiff_benchmarks.claims.methods import LINES, located, methods_page

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_what_the_claims_declare():
    assert PAGE.read_text(encoding="utf-8") == methods_page(), "run `anydiff claims methods --out docs/methods.md`"


def test_every_claim_has_its_row_with_files_that_are_there():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert [row.split("|")[4].strip(" `") for row in rows] == slugs()
    for slug in slugs():
        assert all(len(located(file).read_text().splitlines()) <= LINES for file in load_claim(slug).claim.files)


@pytest.fixture
def declared(monkeypatch):
    """Let the only claim declare something else."""

    def declare(**changes):
        file = load_claim("ts_dpm")
        changed = dataclasses.replace(file, claim=dataclasses.replace(file.claim, **changes))
        monkeypatch.setattr(methods, "slugs", lambda: ["ts_dpm"])
        monkeypatch.setattr(methods, "load_claim", lambda slug: changed)

    return declare


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"files": ()}, "names no files"),
        ({"files": ("anydiff/solvers/absent.py",)}, "'anydiff/solvers/absent.py' of a claim is not there"),
        ({"files": ("anydiff_absent/a.py",)}, "'anydiff_absent', which is not installed"),
        ({"files": ("anydiff",)}, "is not there; name it as package/folder/file.py"),
        ({"recipes": ("images/fashion sampling.nfe=3",)}, "sampling.solver.name will do"),
        ({"recipes": ("images/fashion training.stops=3",)}, "stops"),
    ],
)
def test_what_a_claim_may_not_declare(declared, changes, sentence):
    declared(**changes)
    with pytest.raises(AnydiffError, match=sentence):
        methods_page()


@pytest.mark.parametrize("recipe", ["images/fashon", "images/fashion path.name=absent"])
def test_a_recipe_of_a_claim_is_registered_with_all_its_parts(declared, recipe):
    declared(recipes=(recipe,))
    with pytest.raises(UnknownNameError):
        methods_page()


def test_a_file_that_is_too_long_is_refused(declared, monkeypatch):
    declared(files=("anydiff/solvers/ddim.py",))
    methods_page()
    monkeypatch.setattr(methods, "LINES", 20)
    with pytest.raises(AnydiffError, match="at most 20; split it"):
        methods_page()


def test_the_command_writes_the_page(declared, tmp_path):
    from typer.testing import CliRunner

    from anydiff_benchmarks.claims.command import app

    declared(recipes=("images/fashion path.name=ve training.steps=3", "images/fashion sampling.solver.name=pndm"))
    with pytest.raises(UnknownNameError, match="unknown solver 'pndm'"):
        methods_page()
    declared(recipes=("images/fashion path.name=ve training.steps=3", "images/fashion"))
    assert CliRunner().invoke(app, ["methods", "--out", str(tmp_path / "page.md")]).exit_code == 0
    page = (tmp_path / "page.md").read_text()
    assert "`anydiff train images/fashion --set path.name=ve --set training.steps=3`<br>`images/fashion`" in page
    assert CliRunner().invoke(app, ["methods"]).output == page
