"""Options that commands share are read once, as objects, and arrive as they were written."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer.main

from anydiff.cli import common
from anydiff.cli.lazy import build_command, find_command
from anydiff.cli.options import Drawing, OwnDrawing, Run, names, spread

SEEN = []


def made(source: common.Source, *, drawing: OwnDrawing, last: int = 3, run: Run) -> None:
    """Notes what it is given."""
    SEEN.append((source, drawing, last, run))


def plain(source: common.Source, last: int = 3) -> None:
    """Has no such object."""


def test_what_is_written_arrives_in_the_objects():
    app = typer.Typer(add_completion=False)
    app.command()(spread(made))
    words = ["mine", "--nfe", "7", "--option", "eta=1", "--option", "a=b", "--calibration", "c.safetensors"]
    typer.main.get_command(app)([*words, "--seed", "9", "--last", "4"], standalone_mode=False)
    drawing = OwnDrawing(nfe=7, option=["eta=1", "a=b"], calibration=Path("c.safetensors"))
    assert SEEN.pop() == ("mine", drawing, 4, Run(seed=9))
    typer.main.get_command(app)(["mine"], standalone_mode=False)
    assert SEEN.pop() == ("mine", OwnDrawing(), 3, Run())


def test_the_fields_stand_where_the_object_stood_and_other_commands_are_left_alone():
    order = list(inspect.signature(spread(made)).parameters)
    assert order == ["source", *names(OwnDrawing), "last", *names(Run)]
    assert spread(plain) is plain


@pytest.mark.parametrize(
    ("name", "kind"), [("sample", OwnDrawing), ("evaluate", OwnDrawing), ("restore", Drawing), ("optimise", Drawing)]
)
def test_the_commands_share_them(name, kind):
    known = {each.name for each in build_command(find_command(name)).params}
    assert set(names(kind, Run)) <= known
    assert ("calibration" in known) == (kind is OwnDrawing)


def test_what_they_stand_for_is_what_sampling_takes():
    given = OwnDrawing(nfe=5, solver="ddim", option=["eta=1.0"], guidance="2", temperature=0.5).given(Run(3, 8, "cpu"))
    (guidance,) = given.pop("guidance")
    assert guidance.scale == 2.0
    assert given == {
        "solver": "ddim",
        "nfe": 5,
        "eta": 1.0,
        "seed": 3,
        "device": "cpu",
        "batch_size": 8,
        "temperature": 0.5,
    }
    assert "temperature" not in Drawing().given(Run())
