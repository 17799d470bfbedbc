"""``anydiff data`` as a user runs it."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("anydiff_images")


def anydiff(*arguments, home):
    import os

    return subprocess.run(
        [sys.executable, "-m", "anydiff", "data", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANYDIFF_HOME": str(home)},
    )


def test_list_and_show(tmp_path):
    listed = anydiff("list", "--json", home=tmp_path)
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert rows["images/fashion-mnist"]["cached"] is False
    assert "images/cifar10" in anydiff("list", home=tmp_path).stdout
    shown = anydiff("show", "images/cifar10", home=tmp_path)
    assert rows["images/cifar10"]["container"]["sha256"] in shown.stdout


def test_bad_names_files_and_terms_end_with_one_sentence(tmp_path):
    for arguments, expected in [
        (("show", "images/cifar-10"), "did you mean 'images/cifar10'?"),
        (("get", "images/cifar10"), "--accept-licence"),
        (("get", "images/fashion-mnist", "--from", str(tmp_path / "none.deb")), "none.deb' does not exist"),
    ]:
        result = anydiff(*arguments, home=tmp_path)
        assert result.returncode == 2, result
        assert expected in result.stderr
        assert "Traceback" not in result.stderr


def test_the_list_imports_no_torch(tmp_path):
    code = (
        "import sys; from anydiff.cli.main import main; sys.argv = ['anydiff', 'data', 'list']\n"
        "try: main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("False")
