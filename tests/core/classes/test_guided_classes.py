"""Guidance of classes: classifier-free on logits, known entries, truncations, kept predictions; what is refused."""

from __future__ import annotations

import pytest
import torch
from laws import CLASSES, LENGTH, distance, law_p, spec
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.base import FunctionDenoiser
from anydiff.denoisers.table import ChainOracle, TableOracle
from anydiff.denoisers.wrappers import Clamp, KnownEntries, Nucleus, TopK
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.guidance.unchanged import Unchanged
from anydiff.networks.sequence import Tokens
from anydiff.paths import Masked, Uniform
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.states import UNCONDITIONAL, Conditioning, Known

P = law_p()
PATH = Masked().bind(spec())
ORACLE = TableOracle(PATH, spec(), P)


def conditional(x, t, condition):
    """Logits that depend on a label, and others where there is none."""
    table = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    found = table[condition.given["label"]] if "label" in condition.given else torch.zeros(len(x), 3)
    found = torch.where(condition.presence("label")[:, None], found, 0.5) if "label" in condition.given else found
    return found[:, None].expand(len(x), LENGTH, 3).clone()


@pytest.mark.parametrize("scale", [1.5, torch.tensor([1.5, 1.5]), lambda t: 1.5])
def test_guidance_without_classifier_works_on_logits(scale) -> None:
    inner = FunctionDenoiser(conditional, PATH, "logits")
    x = torch.full((2, LENGTH), CLASSES)
    condition = Conditioning({"label": torch.tensor([0, 1])})
    found = ClassifierFree(scale)(inner).predict(x, 0.5, "logits", condition)
    plain = inner.predict(x, 0.5, "logits", condition)
    assert torch.allclose(found, 0.5 + 1.5 * (plain - 0.5))


def known(length: int = LENGTH) -> Conditioning:
    values, mask = torch.zeros(1, length).long(), torch.zeros(1, length, dtype=torch.bool)
    values[0, 0], values[0, 3] = 2, 1
    mask[0, [0, 3]] = True
    return Conditioning(known=Known(values, mask))


@pytest.mark.parametrize(("shown", "low", "high"), [("by-path", 0.0, 0.03), ("noised", 0.12, 0.3)])
def test_known_classes_are_shown_clean_from_the_first_step(shown: str, low: float, high: float) -> None:
    """p(b, c | a = 2, d = 1): replacing predictions alone leaves a bias that no number of steps removes."""
    count = 3000
    condition = known().rows(torch.zeros(count, dtype=torch.int64))
    found = sample(
        ORACLE, spec(), count, solver=compile_plan("ancestral", PATH, 64), condition=condition, batch_size=count,
        guidance=KnownEntries(shown=shown),
    )  # fmt: skip
    assert (found[:, 0] == 2).all()
    assert (found[:, 3] == 1).all()
    wanted = P[2, :, :, 1] / P[2, :, :, 1].sum()
    law = torch.bincount(found[:, 1] * CLASSES + found[:, 2], minlength=9) / count
    assert low <= distance(law, wanted) <= high


def test_truncations_keep_the_most_probable_classes() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    assert torch.softmax(TopK(2).changed(logits), -1)[0].tolist() == pytest.approx([0.625, 0.375, 0.0])
    assert torch.softmax(Nucleus(0.7).changed(logits), -1)[0].tolist() == pytest.approx([0.625, 0.375, 0.0])
    assert torch.softmax(Nucleus(0.4).changed(logits), -1)[0].tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert torch.equal(Nucleus().changed(logits), logits)


class Rows(ChainOracle):
    """A chain that counts the rows it is asked for."""

    rows = 0

    def native(self, x, t, condition=UNCONDITIONAL):
        self.rows += len(x)
        return super().native(x, t, condition)


def chain(length: int) -> Rows:
    transition = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]], dtype=torch.float64)
    return Rows(Masked().bind(spec(length)), spec(length), torch.full((3,), 1 / 3).double(), transition)


def test_kept_predictions_cost_what_the_formula_says_and_change_no_sample() -> None:
    """n = 256 steps, 64 entries: n (1 - (1 - 1/n)^L) = 56.7 rows per sample, finished rows costing nothing."""
    plan, rows = compile_plan("ancestral", Masked().bind(spec(64)), 256), 100
    plain, kept = chain(64), chain(64)
    one = sample(plain, spec(64), rows, solver=plan)
    two = sample(kept, spec(64), rows, solver=plan, guidance=Unchanged())
    assert torch.equal(one, two)
    assert plain.rows == 256 * rows
    assert kept.rows / rows == pytest.approx(56.7, abs=1.0)


def test_kept_predictions_are_of_rows_and_not_of_batches() -> None:
    plan = compile_plan("ancestral", Masked().bind(spec(8)), 16)
    found = [sample(chain(8), spec(8), 6, solver=plan, guidance=Unchanged(), batch_size=size) for size in (1, 4, 6)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def trained(reads_time: bool) -> NetworkDenoiser:
    torch.manual_seed(3)
    network = Tokens(spec(), width=8, blocks=1, heads=2, reads_time=reads_time)
    nn.init.normal_(network.exit.weight)
    return NetworkDenoiser(network.eval(), PATH, "logits", spec=spec())


def test_a_network_that_is_not_told_the_time_may_be_kept() -> None:
    plan = compile_plan("unmasking", PATH, 3)
    one = sample(trained(False), spec(), 20, solver=plan)
    assert torch.equal(one, sample(trained(False), spec(), 20, solver=plan, guidance=Unchanged()))
    with pytest.raises(AnydiffError, match=r"this network is told the time.*reads_time=false"):
        sample(trained(True), spec(), 2, solver=plan, guidance=Unchanged())


@pytest.mark.parametrize(
    ("guidance", "path", "sentence"),
    [
        (Clamp(), Masked(), "limits real numbers, but Masked"),
        (Unchanged(), Uniform(), "replaces classes"),
    ],
)
def test_guidance_that_has_no_meaning_is_refused(guidance, path, sentence: str) -> None:
    path = path.bind(spec())
    with pytest.raises(AnydiffError, match=sentence):
        sample(TableOracle(path, spec(), P), spec(), 2, solver="ancestral", nfe=2, guidance=guidance)
