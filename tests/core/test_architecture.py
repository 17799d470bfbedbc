"""docs/architecture.md is drawn from the code: its picture of rooms is the tested one, its examples are plugins."""

from __future__ import annotations

import re
from pathlib import Path

from test_layers import LAYERS, ROOT

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
EXAMPLES = {path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "examples").glob("*.py")}
SEAMS = PAGE.partition("## Which seam does a new method use?\n")[2].partition("\n## ")[0]


def test_the_picture_of_rooms_is_what_imports_are_held_to():
    """Floor by floor; ``__main__``, which starts the command line, is left out of the picture."""
    picture = PAGE.partition("```\n")[2].partition("```")[0].splitlines()
    floors = [set(re.split(r" {2,}", line)[0].split(" · ")) for line in picture]
    assert floors == [layer - {"__main__"} for layer in reversed(LAYERS)]


def test_every_room_of_the_core_has_a_floor():
    found = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__pycache__", "py.typed"} == set().union(*LAYERS)


def lines(code: str) -> str:
    """The lines without indentation and blank ones, which differ between a class and a page."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def test_what_is_shown_of_a_seam_is_its_example_word_for_word():
    named = dict(re.findall(r"\[`(\w+)\.py`\]\(#([\w-]+)\)", SEAMS))
    sections = {text.partition("\n")[0].lower().replace(" ", "-"): text for text in SEAMS.split("\n### ")[1:]}
    assert set(named.values()) == set(sections)
    assert len(named) == 6
    for example, anchor in named.items():
        blocks = re.findall(r"```python\n(.*?)```", sections[anchor], re.DOTALL)
        assert blocks, anchor
        assert [block for block in blocks if lines(block) not in lines(EXAMPLES[example])] == [], example


def test_seams_name_examples_hooks_and_no_others():
    assert set(re.findall(r"`(\w+)\.py`", SEAMS)) <= set(EXAMPLES)
    hooks = set(re.findall(r"`(register_\w+)`", SEAMS))
    assert all(f"def {hook}(" in (ROOT / "hookspecs.py").read_text(encoding="utf-8") for hook in hooks)
    assert len(hooks) == 16
