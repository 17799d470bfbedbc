"""Start-up stays light: budgets on time and on what is imported, with ten plugins installed."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "lightning_fabric", "safetensors", "einops", "matplotlib", "yaml", "scipy", "PIL"}
SECONDS = {"--help": 0.5, "plugins": 0.3}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for index in range(10):
        info = folder / f"anydiff_ten{index}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: anydiff-ten{index}\nVersion: 1.0\nRequires-Dist: anydiff>=0.1\n"
        )
        (info / "entry_points.txt").write_text(f"[anydiff]\nten{index} = zoo_ten{index}\n")
        (folder / f"zoo_ten{index}.py").write_text("raise RuntimeError('a list must not import this')")
    return {**os.environ, "PYTHONPATH": str(folder), "ANYDIFF_HOME": str(folder / "home")}


def _imported(environment, *arguments):
    """Return the modules that a command imports, and its output."""
    command = [sys.executable, "-X", "importtime", "-m", "anydiff", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return set(re.findall(r"\| +(\S+)$", result.stderr, re.MULTILINE)), result.stdout


def _seconds(environment, *command):
    """Return the least processor time of three runs: what the command itself costs on a busy machine."""
    least = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], env=environment, capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"]])
def test_command_is_light(environment, arguments):
    modules, output = _imported(environment, *arguments)
    assert output
    assert not HEAVY & {module.split(".")[0] for module in modules}
    assert not [module for module in modules if module.startswith("zoo_")]
    assert {module for module in modules if module.startswith("anydiff.cli")} <= {
        "anydiff.cli",
        "anydiff.cli.app",
        "anydiff.cli.lazy",
        "anydiff.cli.main",
        "anydiff.cli.output",
        "anydiff.cli.plugin_list",
    }
    if arguments == ["plugins"]:
        assert not {"typer", "pydantic"} & modules
        assert all(f"anydiff-ten{index}" in output for index in range(10))
    assert (
        _seconds(environment, "-m", "anydiff", *arguments) - _seconds(environment, "-c", "pass") < SECONDS[arguments[0]]
    )


@pytest.mark.parametrize("arguments", [["recipes"], ["solvers"]])
def test_lists_do_not_import_torch(environment, arguments):
    modules, _ = _imported({**environment, "ANYDIFF_PLUGINS": "images"}, *arguments)
    assert "torch" not in modules


def test_import_anydiff_is_light(environment):
    program = (
        "import sys, anydiff; anydiff.hookimpl; anydiff.__version__; "
        f"heavy = {HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}; assert not heavy, heavy; "
        "assert 'compile_plan' in dir(anydiff)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


def test_every_export_exists():
    import anydiff

    for name in anydiff.__all__:
        assert getattr(anydiff, name) is not None, name


def test_an_unknown_attribute_is_an_attribute_error():
    import anydiff

    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = anydiff.absent
