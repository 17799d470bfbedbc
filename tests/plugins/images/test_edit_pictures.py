"""pipeline.edit, pipeline.invert and ``anydiff edit`` on native objects; and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import anydiff
from anydiff.cli.main import run
from anydiff.editing import EditFriendly
from anydiff.errors import AnydiffError

GIVEN, TO = {"label": "Sneaker"}, {"label": "Ankle boot"}
QUICK = {"nfe": 6, "solver": "ddpm"}


@pytest.fixture(scope="module")
def fashion():
    return anydiff.load("images/fashion")


@pytest.fixture(scope="module")
def shoes(fashion):
    found = fashion.reference(60)
    rows = (found.condition.given["label"] == 7).nonzero()[:3, 0]
    return fashion.domain.decode(found.states[rows], found.condition.rows(rows))


def states(pipeline, objects):
    return pipeline.domain.encode(objects)


def test_an_edit_changes_objects_and_the_next_member_differs(fashion, shoes):
    found = fashion.edit(shoes, given=GIVEN, to=TO, members=2, **QUICK)
    assert len(found) == 6
    edits, before = states(fashion, found), states(fashion, shoes)
    assert float((edits[:3] - before).square().mean()) > 0.01
    assert not torch.equal(edits[:3], edits[3:])
    again = states(fashion, fashion.edit(shoes, given=GIVEN, to=TO, **QUICK))
    assert float((again - edits[:3]).abs().max()) <= 2 / 255 + 1e-6


def test_the_noises_of_objects_give_them_back(fashion, shoes, tmp_path):
    record = fashion.invert(shoes, given=GIVEN, **QUICK)
    record.save(tmp_path / "noises.safetensors")
    again = anydiff.editing.NoiseRecord.load(tmp_path / "noises.safetensors")
    settings = {"noise": again, "condition": GIVEN, "guidance": 1, **QUICK}
    found = fashion.sample(3, **settings)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(found, shoes, strict=True))
    with pytest.warns(UserWarning, match="found under the guidance none, but are replayed under ClassifierFree"):
        fashion.sample(3, **{**settings, "guidance": 3.0})
    with pytest.raises(AnydiffError, match="another plan"):
        fashion.sample(3, **{**settings, "nfe": 7})


def test_entries_are_moved_without_another_condition(fashion, shoes):
    method = EditFriendly(skip=0.0, change=lambda noises: noises.roll(4, 2))
    moved = states(fashion, fashion.edit(shoes, given=GIVEN, method=method, **QUICK))
    assert float((moved - states(fashion, shoes)).square().mean()) > 0.01


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"given": GIVEN, "to": GIVEN}, "given and to say the same"),
        ({"given": GIVEN}, "to is missing"),
        ({"to": {"colour": "red"}}, "colour"),
        ({"to": TO, "skip": 1.2}, "skip is 1.2"),
        ({"to": TO, "method": "edit-freindly"}, "edit-friendly"),
        ({"to": TO, "method": "ddib", "skip": 0.3}, "skip"),
        ({"to": TO, "solver": "dpm-solver++-2m"}, "'ddib'"),
        ({"to": TO, "eta": 0.5}, "name the solver too"),
        ({"to": TO, "method": EditFriendly(), "skip": 0.3}, "set it there"),
        ({"to": TO, "members": 0}, "members"),
    ],
)
def test_what_cannot_be_meant_is_refused(fashion, shoes, options, match):
    with pytest.raises(AnydiffError, match=match):
        fashion.edit(shoes, **{"nfe": 6, **options})


def test_no_objects_other_models_and_wrong_inversions_are_refused(fashion, shoes):
    with pytest.raises(AnydiffError, match="no objects"):
        fashion.edit([], to=TO)
    with pytest.raises(AnydiffError, match="of domain 'trajectories"):
        fashion.edit(shoes, to=TO, model=anydiff.load("trajectories/maze"))
    with pytest.raises(AnydiffError, match="to is of an edit"):
        fashion.invert(shoes, to=TO)


def test_the_command_writes_edits_and_a_picture(fashion, shoes, tmp_path, capsys):
    fashion.domain.write(shoes, tmp_path / "shoes")
    common = ["edit", "images/fashion", str(tmp_path / "shoes"), "--nfe", "4", "--out", str(tmp_path / "edited")]
    picture = tmp_path / "pair.png"
    assert run([*common, "--given", "label=Sneaker", "--to", "label=Ankle boot", "--picture", str(picture)]) == 0
    assert len(list((tmp_path / "edited").iterdir())) == 3
    assert Image.open(picture).width > 28
    assert run([*common, "--to", "label=Bag"]) != 0
    assert "overwrite" in capsys.readouterr().err
    other = [*common[:-1], str(tmp_path / "moved")]
    assert run([*other, "--given", "label=Sneaker", "--roll", "2=x"]) != 0
    assert "AXIS=OFFSET" in capsys.readouterr().err
    assert not (tmp_path / "moved").exists()


def test_the_methods_are_listed(capsys):
    assert run(["edits"]) == 0
    assert "cycle-diffusion" in capsys.readouterr().out
