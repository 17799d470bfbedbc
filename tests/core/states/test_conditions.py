"""What is given beside states: one frozen object whose fields, not whose names, say what a tensor means."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anydiff.denoisers import FunctionDenoiser
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.networks import ConditionEncoder
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, ClassCondition, Conditioning, Known
from anydiff.states.conditions import hashed_names


def full(rows: int = 4) -> Conditioning:
    number = torch.arange(float(rows))
    return Conditioning(
        {"label": torch.arange(rows), "mask": number},
        {"label": torch.arange(rows) % 2 == 0},
        torch.ones(rows, 3, dtype=torch.bool),
        Known(number[:, None], number[:, None] > 0),
        {"mu": number[:, None]},
        {"area": number},
        number[:, None],
        torch.arange(rows),
        {"label": {"code": number[:, None]}},
    )


def same(one: Conditioning, two: Conditioning) -> bool:
    first, second = dict(one.tensors()), dict(two.tensors())
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_rows_are_those_of_every_field(rows):
    chosen, whole = full().rows(rows), full()
    assert same(chosen, full().rows(torch.tensor(rows)))
    for name, value in chosen.tensors():
        assert torch.equal(value, dict(whole.tensors())[name][rows]), name
    assert same(Conditioning.joined([whole.rows([row]) for row in rows]), chosen)


def test_repeat_to_clone_and_files_keep_every_field():
    whole = full()
    assert same(whole.repeat(2), whole.rows([0, 0, 1, 1, 2, 2, 3, 3]))
    for other in (whole.to("cpu"), whole.clone(), copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert same(other, whole)
    assert same(Conditioning.from_tensors(dict(whole.tensors())), whole)
    with pytest.raises(AnydiffError, match="'label' names no field"):
        Conditioning.from_tensors({"label": torch.zeros(1)})
    assert len(dict(whole.tensors())) == 11
    assert whole
    assert not UNCONDITIONAL


def test_nothing_in_it_can_be_written():
    whole = full()
    for table in (whole.given, whole.present, whole.sources, whole.truth, whole.parts, whole.parts["label"]):
        with pytest.raises(TypeError):
            table["more"] = torch.zeros(4)
    with pytest.raises(AttributeError):
        whole.mask = None
    own = {"label": torch.zeros(2)}
    made = Conditioning(own)
    own["other"] = torch.zeros(2)
    assert list(made.given) == ["label"]


def test_conditions_are_taken_out_and_hidden_by_name():
    whole = full()
    without = whole.without(["label"])
    assert (list(without.given), dict(without.present), dict(without.parts)) == (["mask"], {}, {})
    assert list(whole.only(["label"]).given) == ["label"]
    hidden = whole.hidden(["label", "mask"], torch.tensor([True, False, False, False]))
    assert hidden.present["label"].tolist() == [False, False, True, False]
    assert hidden.present["mask"].tolist() == [False, True, True, True]
    assert whole.presence("mask").tolist() == [True] * 4
    assert whole.without_truth().truth == {}
    assert (whole.asked().loss_weight, dict(whole.asked().truth)) == (None, {})


def test_what_has_other_rows_is_named():
    with pytest.raises(AnydiffError, match=r"condition 'label' has \(4,\) where 5 rows are needed"):
        full().checked(5)
    with pytest.raises(AnydiffError, match=r"truth 'area' has int where 4 rows"):
        Conditioning(truth={"area": 3}).checked(4)


def test_names_in_published_hashes_stay():
    wanted = ["known", "known_mask", "label", "label_present", "loss_mask", "mask", "mu", "truth_area"]
    assert list(hashed_names(full().only(["label"]))) == wanted
    assert list(hashed_names(full())) == sorted([*wanted, "given.mask"]), "a condition that is called mask counts too"


@pytest.mark.parametrize("name", ["mask", "label_present", "known", "mu", "loss_mask", "truth_area", "index"])
def test_no_name_of_a_condition_is_special(name):
    """It reaches the network, is dropped by guidance, and is neither a mask nor weights nor a presence."""
    torch.manual_seed(0)
    encoder = ConditionEncoder({name: ClassCondition(3)}, 4)
    labels = torch.tensor([0, 1, 2])
    told = encoder(3, Conditioning({name: labels}))
    assert not torch.equal(told, encoder(3, UNCONDITIONAL))
    seen: list[Conditioning] = []

    def data(x, t, condition):
        seen.append(condition)
        return 0.5 * x

    sample(FunctionDenoiser(data, VPLinear()), (2,), 3, nfe=2, guidance=ClassifierFree(2.0), condition={name: labels})
    assert torch.equal(seen[0].given[name], labels.repeat(2))
    assert seen[0].present[name].tolist() == [True] * 3 + [False] * 3
    assert (seen[0].mask, seen[0].known, seen[0].loss_weight) == (None, None, None)
    assert seen[0].index.tolist() == [0, 1, 2, 0, 1, 2]
