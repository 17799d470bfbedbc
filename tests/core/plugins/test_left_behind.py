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
        ("import torch\ntorch.set_default_dtype(torch.float64)", "changes torch's default type for every model"),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()", ""),
    ],
)
def test_what_an_import_leaves_behind(tmp_path, body, says):
    (tmp_path / "left.py").write_text(f"from anydiff.hookspecs import hookimpl\n{body}\n")
    plugin = Plugin("left", "", "1", os.fspath(tmp_path / "left.py"))
    culprit, problem = _try([plugin], 30)
    assert (culprit is not None) == bool(says), problem
    assert says in problem
