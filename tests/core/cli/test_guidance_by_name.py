"""Guidance by name: on the command line, in Python; a number is the classifier-free scale."""

from __future__ import annotations

import pytest

from anydiff.cli.common import guiding
from anydiff.cli.main import run
from anydiff.denoisers.wrappers import Clamp, DynamicThreshold
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.recipes import Part
from anydiff.recipes.build import build_guidance


@pytest.mark.parametrize(
    ("text", "options", "built"),
    [
        (None, None, None),
        ("2", None, [ClassifierFree(2.0)]),
        ("1.5", [], [ClassifierFree(1.5)]),
        ("dynamic-threshold", ["quantile=0.99", "floor=2.0"], [DynamicThreshold(0.99, 2.0)]),
        ("classifier-free", ["scale=3"], [ClassifierFree(3)]),
    ],
)
def test_what_the_command_line_says(text, options, built):
    assert guiding(text, options) == built


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("dynamic-treshold", None, "did you mean 'dynamic-threshold'"),
        ("dynamic-threshold", ["quantil=0.9"], "did you mean 'quantile'"),
        ("2", ["scale=3"], "--guidance-option scale belongs to a guidance that is named"),
        (None, ["scale=3"], "--guidance-option scale belongs to a guidance that is named"),
        ("nan", None, "a scale must be a finite number"),
        ("inf", None, "a scale must be a finite number"),
        ("dynamic-threshold", ["quantile"], "write NAME=VALUE"),
    ],
)
def test_what_it_refuses(text, options, says):
    with pytest.raises(AnydiffError, match=says):
        guiding(text, options)


def test_python_takes_parts_and_objects():
    assert build_guidance(Part(name="clamp")) == [Clamp()]
    assert build_guidance([Part(name="clamp"), DynamicThreshold()]) == [Clamp(), DynamicThreshold()]


def test_a_plugins_guidance_changes_what_is_drawn(tmp_path, monkeypatch, capsys):
    import sys

    import numpy as np
    from PIL import Image

    from anydiff.plugins import forget, report_to

    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "zoo_dark.py").write_text(
        "from dataclasses import dataclass\n"
        "from anydiff import hookimpl\nfrom anydiff.guidance import Guidance\n\n"
        "@dataclass(frozen=True)\nclass Dark(Guidance):\n    value: float = -1.0\n\n"
        "    def data(self, denoiser, x, t, condition):\n"
        "        return denoiser(x, t, condition) * 0 + self.value\n\n"
        "@hookimpl\ndef register_guidance(register):\n    register('zoo_dark', 'black', 'zoo_dark:Dark')\n"
    )
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(folder))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "images,zoo_dark")
    forget()
    try:
        common = ["sample", "images/fashion", "--count", "2", "--nfe", "4", "--guidance", "zoo_dark"]
        assert run([*common, "--out", str(tmp_path / "black")]) == 0
        assert run([*common, "--guidance-option", "value=1.0", "--out", str(tmp_path / "white")]) == 0
    finally:
        report_to(None)
        forget()
        sys.modules.pop("zoo_dark", None)
    for name, value in (("black", 0), ("white", 255)):
        pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / name).glob("*.png"))]
        assert len(pictures) == 2
        assert all(abs(picture.mean() - value) < 10 for picture in pictures)
