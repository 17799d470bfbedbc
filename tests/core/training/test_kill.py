"""kill -9 at any moment: the run stays readable, and the resumed training is the uninterrupted one, by hash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_killed_trainings_resume_exactly(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).parent / "killer.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "killed 20 times" in done.stdout
