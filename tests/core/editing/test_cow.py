"""Cyclic one-way diffusion: its moves, its calls, and what it is with nothing pasted."""

from __future__ import annotations

import pytest
import torch
from exact import CENTRES, mixture

from anydiff.denoisers import FunctionDenoiser
from anydiff.editing import COW, Side, Travel
from anydiff.errors import AnydiffError
from anydiff.guidance.combined import Combined, Term, regional
from anydiff.paths import VPLinear
from anydiff.solvers import Plan
from anydiff.solvers.plan import Apply
from anydiff.states import Conditioning

PATH = VPLinear()
REGION = torch.tensor([True, False])


def edited(method, levels=10, **options):
    canvas = CENTRES[torch.tensor([0, 1, 2])] * torch.tensor([1.0, 0.0], dtype=torch.float64)
    side = Side(mixture(PATH))
    return method.edit(canvas, (2,), side, side, travel=Travel(nfe=levels), **options), canvas


def test_the_calls_are_counted():
    """n = 10: r = 5, b = 7."""
    assert COW(REGION, cycles=3).plan(PATH, 10).nfe == 7 + 5 + 3 * 2 + 5
    assert COW(REGION, cycles=0).plan(PATH, 10).nfe == 7 + 5 + 5


def test_a_walk_is_data():
    plan = COW(REGION, cycles=2).plan(PATH, 10)
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()
    pastes = [row.t for row in plan.instructions if isinstance(row, Apply)]
    nodes = plan.nodes[::-1]
    assert pastes == [nodes[k] for k in (7, 6, 5, 7, 6, 5, 4)]


def test_without_cycles_and_noise_it_gives_back_what_rose():
    """DDIM inversion and DDIM down again; the seed pasted at level m is the canvas's own."""
    found, canvas = edited(COW(REGION, cycles=0, eta_descent=0.0), levels=200)
    assert float((found - canvas).abs().max()) < 0.05


def test_the_seed_is_kept_and_the_rest_follows_it():
    found, canvas = edited(COW(REGION), levels=50)
    assert float((found[:, 0] - canvas[:, 0]).square().mean().sqrt()) < 0.35
    nearest = torch.cdist(found, CENTRES).amin(1)
    assert float(nearest.mean()) < 0.6


def test_another_seed_moves_every_row_but_not_its_neighbours():
    first, canvas = edited(COW(REGION, cycles=2))
    seed = canvas.clone()
    seed[1, 0] += 0.4
    other, _ = edited(COW(REGION, seed=seed, cycles=2))
    assert torch.allclose(first[[0, 2]], other[[0, 2]], rtol=0, atol=1e-9)
    assert not torch.allclose(first[1], other[1])
    cut, _ = edited(COW(REGION, cycles=2), batch_size=2)
    assert torch.allclose(cut, first, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"middle": 0.6}, "middle is 0.6"),
        ({"back": 0.3}, "replace is 0.5"),
        ({"cycles": -1}, "cycles"),
        ({"region": torch.tensor([True, True])}, "every entry"),
        ({"region": torch.tensor([False, False])}, "no entry"),
        ({"region": torch.ones(3)}, r"shape \(3,\)"),
        ({"seed": torch.zeros(3, 1)}, "the seed has shape"),
    ],
)
def test_bad_options_are_one_sentence(change, match):
    with pytest.raises(AnydiffError, match=match):
        edited(COW(**{"region": REGION, **change}))


def test_weights_per_entry_over_several_conditions():
    """With the same thing suppressed and asked for, it is ordinary guidance away from the negative."""

    class Levels(FunctionDenoiser):
        def native(self, x, t, condition=None):
            return x + condition.given["level"].to(x)

    inner = Levels(lambda x, t: x, PATH)
    x, asked = torch.zeros(2, 2), Conditioning({"level": torch.tensor([[1.0], [2.0]])})
    low, other = {"level": torch.tensor([[-1.0]])}, {"level": torch.tensor([[5.0]])}
    same = regional(REGION, 3.0, low, suppressed=other, diverse=other)(inner)
    plain = regional(REGION, 3.0, low)(inner)
    assert torch.allclose(same(x, 0.5, asked), plain(x, 0.5, asked))
    assert torch.allclose(plain(x, 0.5, asked), torch.tensor([[5.0, 5.0], [8.0, 8.0]]))
    apart = regional(REGION, 3.0, low, suppressed=other, diverse=low)(inner)(x, 0.5, asked)
    assert torch.allclose(apart, torch.tensor([[5.0, -7.0], [8.0, -4.0]]))
    with pytest.raises(AnydiffError, match="add up to 2"):
        Combined([Term(1.0), Term(1.0)])
    with pytest.raises(AnydiffError, match="suppressed and diverse"):
        regional(REGION, 3.0, low, suppressed=other)
