"""Commands that a warm interpreter runs behave as those of a new one."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

PROGRAM = """
import os, sys
from anydiff.plugins import loader
tops = {name.partition(".")[0] for name in sys.modules}
plugins = sorted(name for name in tops - {"anydiff_benchmarks"} if name.startswith("anydiff_"))
print(plugins, loader._cache, sys.argv[1:], os.getcwd(), os.environ["MARK"])
if "raise" in sys.argv:
    raise ValueError("wrong")
if "sleep" in sys.argv:
    import time; time.sleep(600)
sys.exit(int(sys.argv[1]))
"""


def test_it_is_a_process_of_its_own_that_ends_as_python_does(warm, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "MARK": "here"}

    def run(*arguments, **options):
        return warm(*arguments, module="program", env=environment, cwd=tmp_path, **options)

    done = run("3")
    assert (done.returncode, done.stdout) == (3, f"[] None ['3'] {tmp_path} here\n")
    assert run("0").returncode == 0
    failed = run("0", "raise")
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: wrong\n")
    with pytest.raises(subprocess.TimeoutExpired):
        run("0", "sleep", timeout=0.5)
    assert run("4").returncode == 4
    begun = warm.begin("0", "sleep", module="program", env=environment, cwd=tmp_path)
    assert begun.poll() is None
    assert run("5").returncode == 5, "what was begun and still runs is ended first"
    assert begun.poll() == -signal.SIGKILL


def test_a_command_says_what_it_says_elsewhere(warm, tmp_path):
    done = warm("sample", "images/fashoin", "--out", "x", env=dict(os.environ), cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'images/fashion'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
