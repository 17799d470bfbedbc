"""Imports that harm every later command without ending the interpreter: found in the trial, and quarantined."""

from __future__ import annotations

import os

import pytest

from anydiff.plugins.discovery import Plugin
from anydiff.plugins.trial import _try


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,)).start()", "leaves a thread running"),
        ("import os\nos.close(1)", "closes the program's output when it is loaded"),
        ("import warnings\nwarnings.simplefilter('error')", "makes warnings errors"),
        ("import warnings\nwarnings.filterwarnings('ignore')", "silences all warnings"),
        ("import warnings\nwarnings.filterwarnings('ignore', 'x', UserWarning)", ""),
        ("import torch\ntorch.randn(1)", ""),
        ("import numpy, random\nrandom.random(), numpy.random.normal()", ""),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()", ""),
    ],
)
def test_what_an_import_leaves_behind(tmp_path, body, says):
    (tmp_path / "left.py").write_text(f"from anydiff.hookspecs import hookimpl\n{body}\n")
    plugin = Plugin("left", "", "1", os.fspath(tmp_path / "left.py"))
    culprit, problem = _try([plugin], 30)
    assert (culprit is not None) == bool(says), problem
    assert says in problem


CHANGES = """
import locale, os, random, signal
import numpy as np
os.chdir("/")
os.umask(0o011)
os.environ["OMP_NUM_THREADS"] = "77"
locale.setlocale(locale.LC_ALL, "POSIX")
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
random.seed(0)
np.random.seed(0)
np.seterr(all="raise")
"""
IN_TORCH = """
import torch
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
torch.manual_seed(0)
torch.set_num_threads(torch.get_num_threads() + 1)
"""


def test_every_change_is_named(tmp_path):
    (tmp_path / "left.py").write_text(CHANGES + IN_TORCH)
    _, problem = _try([Plugin("left", "", "1", os.fspath(tmp_path / "left.py"))], 60)
    for what in (
        "the working directory",
        "the locale",
        "the permissions of new files",
        "what Ctrl-C does",
        "what a request to end does",
        "the number of threads of numerical libraries",
        "the seed of Python's global random numbers",
        "the seed of NumPy's global random numbers",
        "NumPy's answer to overflow and division by zero",
        "torch's default type for every model",
        "torch's default device for every model",
        "torch's number of threads for every command",
    ):
        assert f"changes {what}" in problem
    assert "turns torch's gradients off" in problem
    assert "seeds torch's global random numbers" in problem
