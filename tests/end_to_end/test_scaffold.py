"""From an empty folder: skeleton, check, train, sample, evaluate, by the commands that the tutorial shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from warm import Warm

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.templates import KINDS, write_plugin

TUTORIAL = Path(__file__).parents[2] / "docs" / "plugins.md"


class Shell:
    """A folder in which commands are run, with what pip installed there importable."""

    def __init__(self, folder: Path, warm: Warm) -> None:
        self.folder, self.warm = folder, warm
        names = ("ANYDIFF_PLUGINS", "ANYDIFF_PLUGINS_DIR", "ANYDIFF_TRACE", "PYTHONPATH")
        self.environment = {key: value for key, value in os.environ.items() if key not in names}
        self.environment |= {"ANYDIFF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}

    def install(self, package: Path) -> None:
        """``pip install`` of the sources, by the package's own build backend, into a folder on the path."""
        site = str(self.folder / "site")
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", site]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options, str(package)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        self.environment["PYTHONPATH"] = site

    def __call__(self, *arguments: str, module: str = "anydiff") -> subprocess.CompletedProcess[str]:
        return self.warm(*arguments, module=module, env=self.environment, cwd=self.folder)

    def succeed(self, *arguments: str, module: str = "anydiff") -> str:
        done = self(*arguments, module=module)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def shell(tmp_path, warm):
    return Shell(tmp_path, warm)


@pytest.mark.slow
def test_from_nothing_to_an_evaluated_domain(shell):
    """The commands are those of the tutorial; the author has written no line."""
    shell.succeed("new-plugin", "orchard")
    package = shell.folder / "anydiff-orchard"
    shell.install(package)
    assert "orchard" in shell.succeed("plugins")
    report = json.loads(shell.succeed("check", "orchard", "--json"))
    assert report["ok"]
    skipped = {check["id"] for check in report["checks"] if check["status"] == "skipped"}
    # its states have no mask, its rows are of no cases, it brings no weights, and its metric scores no single cases
    assert skipped == {f"{each}[orchard/small]" for each in ("recipe.masked", "recipe.weights")} | {
        f"{each}[orchard]" for each in ("domain.sample-mask", "domain.match")
    } | {"metric.scores[orchard/mean-distance]"}
    kinds = {check["id"].split(".")[0] for check in report["checks"]}
    assert kinds == {"loading", "data", "domain", "metric", "recipe", "kit"}
    shell.succeed("train", "orchard/small", "--out", "runs/orchard")
    shell.succeed("sample", "runs/orchard", "--count", "200", "--out", "rows.csv", "--picture", "rows.png")
    assert len((shell.folder / "rows.csv").read_text().splitlines()) == 200
    assert (shell.folder / "rows.png").read_bytes().startswith(b"\x89PNG")
    drawn = json.loads(shell.succeed("evaluate", "runs/orchard", "--count", "500", "--json"))
    kept = json.loads(shell.succeed("evaluate", "runs/orchard", "--samples", "rows.csv", "--json"))
    for scores in (drawn, kept):  # data of deviation 0.8 around 0: an untrained model is at 0.3 and more
        assert scores["orchard/mean-distance"]["value"] < 0.25
    tests = shell.succeed("-q", "-p", "no:cacheprovider", str(package), module="pytest")
    assert f"{len(report['checks']) - len(skipped)} passed, {len(skipped)} skipped" in tests


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "domain"])
def test_the_other_kinds_pass_the_check_as_written(kind, shell):
    shell.succeed("new-plugin", "orchard", "--kind", kind)
    shell.install(shell.folder / "anydiff-orchard")
    report = json.loads(shell.succeed("check", "orchard", "--json"))
    assert report["ok"]
    assert report["ran"] >= 11


def test_the_tutorial_shows_the_commands_that_are_tested():
    text = TUTORIAL.read_text()
    for command in ("new-plugin", "check", "train", "sample", "evaluate"):
        assert re.search(rf"^anydiff {command} ", text, re.MULTILINE), command


def test_nothing_is_overwritten(tmp_path):
    folder = write_plugin("orchard", "solver", tmp_path)
    (folder / "README.md").write_text("mine")
    with pytest.raises(AnydiffError, match="exists, and nothing is overwritten"):
        write_plugin("orchard", "domain", tmp_path)
    assert (folder / "README.md").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["anydiff-orchard"]


@pytest.mark.parametrize("name", ["", "Orchard", "or chard", "9lives", "a--b", "a-", "../up", "core", "a_b", "ä"])
def test_a_bad_name_gets_one_sentence(name, tmp_path):
    with pytest.raises(AnydiffError) as error:
        write_plugin(name, "solver", tmp_path)
    assert repr(name) in str(error.value)
    assert str(error.value).count(". ") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_bad_kind_names_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'solver'"):
        write_plugin("orchard", "solvr", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_mark_is_left_and_every_module_compiles(kind, tmp_path):
    folder = write_plugin("my-orchard", kind, tmp_path)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {".github/workflows/test.yml", "README.md", "pyproject.toml", "tests/test_conformance.py"} <= {
        str(path.relative_to(folder)) for path in files
    }
    for path in files:
        assert not re.search("@[A-Z]+@|MODULE", path.read_text() + str(path)), path
        if path.suffix == ".py":
            compile(path.read_text(), str(path), "exec")
            assert path.stat().st_size < 2500


def test_the_templates_are_in_the_wheel(tmp_path):
    from hatchling.builders import wheel as build

    root = Path(__file__).parents[2] / "core"
    wheel = next(build.WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "anydiff/templates/common/pyproject.toml.txt" in names
    assert "anydiff/templates/common/dotgithub/workflows/test.yml.txt" in names
