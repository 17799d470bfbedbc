"""Bad distributions as wheels that pip installs: each is told in one sentence with the fix, and hurts nobody else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "plugins"))

from bad_plugins import ABORTS, BAD, HANGS, REGISTERS

GOOD = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_solvers(register):
    register("good/euler", "a solver", "zoo_good:make", order=1)
"""
TOO_OLD = BAD["too-old"]._replace(says=("needs anydiff <0.1", "but this is anydiff"), requires="anydiff<0.1")
TOLD = {
    name: BAD[name]
    for name in ("import-error", "syntax", "exits", "wrong-argument", "misspelt", "half", "clash", "too-new", "twice")
} | {"too-old": TOO_OLD}
"""Those that leave the process alive, so that every command can tell of them."""


def wheel(folder: Path, name: str, code: str, requires: str = "anydiff>=0.1,<0.2") -> Path:
    """A wheel of one module with one entry point, written by hand."""
    module, stem = f"zoo_{name.replace('-', '_')}", f"anydiff_{name.replace('-', '_')}-1.0"
    info = f"{stem}.dist-info"
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: anydiff-{name}\nVersion: 1.0\nRequires-Dist: {requires}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: zoo\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[anydiff]\n{name} = {module}\n",
    }
    record = [f"{file},sha256={_hash(text)},{len(text.encode())}\n" for file, text in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"])
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Zoo:
    """A folder into which pip installed the whole zoo, and commands that see it."""

    def __init__(self, folder: Path) -> None:
        self.home, site = folder, folder / "site"
        wheels = [wheel(folder, name, bad.code, bad.requires) for name, bad in TOLD.items()]
        wheels += [wheel(folder, name, bad.code) for name, bad in REGISTERS.items()]
        wheels += [wheel(folder, *pair) for pair in (("aborts", ABORTS), ("hangs", HANGS), ("good", GOOD))]
        # Bytecode is left to the first import: compiling would print the syntax error while pip runs.
        options = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", str(site)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options, *map(str, wheels)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        variables = ("ANYDIFF_PLUGINS", "ANYDIFF_PLUGINS_DIR", "ANYDIFF_TRACE")
        self.environment = {key: value for key, value in os.environ.items() if key not in variables}
        self.environment |= {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str, home: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """``anydiff ...`` with a state folder that only calls of the same ``home`` share."""
        environment = {**self.environment, "ANYDIFF_HOME": str(self.home / home), **variables}
        command = [sys.executable, "-m", "anydiff", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    pytest.importorskip("pip")
    return Zoo(tmp_path_factory.mktemp("zoo"))


def works(result):
    """The command did its job: the core's solvers and those of the good neighbour are listed."""
    assert result.returncode == 0, result.stderr
    assert {"ddim", "good/euler"} <= {each["name"] for each in json.loads(result.stdout)}


@pytest.mark.parametrize("name", TOLD)
def test_one_sentence_with_the_fix_and_everything_else_works(zoo, name):
    result = zoo.run("solvers", "--json", home=name, ANYDIFF_PLUGINS=f"good,{name}")
    works(result)
    assert result.stderr.count("\n") == 1, result.stderr
    sentence = result.stderr
    assert f"plugin {name!r} (anydiff-{name} 1.0)" in sentence
    for fragment in (*TOLD[name].says, f"`anydiff plugins disable {name}`"):
        assert fragment in sentence


def test_an_abort_ends_no_start_and_is_quarantined_from_the_first(zoo):
    only = {"home": "aborts", "ANYDIFF_PLUGINS": "good,aborts"}
    for _ in range(2):
        result = zoo.run("solvers", "--json", **only)
        works(result)
        assert result.stderr.count("\n") == 1, result.stderr
        sentence = result.stderr
        assert "plugin 'aborts' (anydiff-aborts 1.0) ended the interpreter when it was loaded" in sentence
        assert "SIGABRT" in sentence
        assert "`anydiff plugins enable aborts`" in sentence


@pytest.mark.parametrize("name", REGISTERS)
def test_a_registration_that_dies_or_never_ends_bricks_nothing(zoo, name):
    only = {"home": name, "ANYDIFF_PLUGINS": f"good,{name}", "ANYDIFF_PLUGIN_SECONDS": "2"}
    for _ in range(2):
        result = zoo.run("solvers", "--json", **only)
        works(result)
        assert result.stderr.count("\n") == 1, result.stderr
        for fragment in (f"plugin {name!r}", *REGISTERS[name].says, f"`anydiff plugins enable {name}`"):
            assert fragment in result.stderr


def test_the_doctor_tells_all_of_them_and_its_advice_silences_them(zoo):
    bad = [*TOLD, "aborts", "hangs"]
    limit = {"home": "doctor", "ANYDIFF_PLUGINS": ",".join([*bad, "good"])}
    result = zoo.run("plugins", "doctor", "--timeout", "6", "--json", **limit)
    assert result.returncode == 1, result.stderr
    found = {each["name"]: each for each in json.loads(result.stdout)["plugins"] if each["status"] != "excluded"}
    assert found["good"]["works"]
    assert not any(found[name]["works"] for name in bad)
    for name in bad:
        fragments = TOLD[name].says if name in TOLD else ()
        for fragment in (*fragments, f"`anydiff plugins disable {name}`"):
            assert fragment in found[name]["problem"]
    assert "did not finish loading within 6 s" in found["hangs"]["problem"]
    assert "SIGABRT" in found["aborts"]["problem"]
    # the list, which imports nothing, says the same: so it answers although one hangs and one aborts
    listed = zoo.run("plugins", "--json", **limit)
    assert listed.returncode == 0, listed.stderr
    problems = {each["name"]: each["problem"] for each in json.loads(listed.stdout)["plugins"]}
    assert {name: problems[name] for name in bad} == {name: found[name]["problem"] for name in bad}
    # the fix that every sentence names is real
    for name in ("hangs", "aborts", "too-new"):
        assert zoo.run("plugins", "disable", name, **limit).returncode == 0
    result = zoo.run("solvers", "--json", **limit)
    works(result)
    assert len(result.stderr.strip().splitlines()) == len(TOLD) - 1
