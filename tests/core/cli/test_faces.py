"""What the commands refuse before any work, and what they print."""

from __future__ import annotations

import pytest

from anydiff.cli.main import run


@pytest.mark.parametrize("command", ["sample", "show"])
def test_a_picture_that_is_no_png_is_refused(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    option = "--picture" if command == "sample" else "--out"
    assert run([command, "images/fashion", option, "x.jpg"]) == 2
    assert "'x.jpg' ends in '.jpg', but pictures are written to a file that ends in .png" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
