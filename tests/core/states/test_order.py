"""Positions of a state and the turns in which they are drawn: exact inverses, groups that cover, orders per sample."""

import math

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.states import Cut, Order, RandomOrder


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((12,), (3,)), ((4, 7, 7), (4, 1, 1)), ((3, 8, 6), (3, 2, 3)), ((5, 2, 3, 4), (1, 2, 3, 4)),
     ((2, 4, 4, 4), (2, 2, 2, 4))],
)  # fmt: skip
def test_cutting_is_undone_exactly(shape, patch):
    cut = Cut(shape, patch)
    states = torch.arange(2 * math.prod(shape)).reshape(2, *shape)
    positions = cut.split(states)
    assert positions.shape == (2, cut.length, *patch)
    assert torch.equal(cut.join(positions), states)
    assert torch.equal(cut.split(cut.join(positions)), positions)
    assert cut.coordinates.shape == (cut.length, len(cut.axes))


def test_patches_lie_where_their_coordinates_say():
    cut = Cut.patches((3, 8, 6), (2, 3))
    states = torch.arange(3 * 8 * 6).reshape(1, 3, 8, 6)
    for place, (row, column) in enumerate(cut.coordinates.tolist()):
        expected = states[0, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        assert torch.equal(cut.split(states)[0, place], expected)
    frames = Cut.frames((5, 3, 4))
    assert frames.axes == (5,)
    assert frames.element == (1, 3, 4)


def test_orders_that_all_samples_share():
    line = Cut((12,), (1,))
    assert Order.blocks(line, 4).sizes == (4, 4, 4)
    assert [group.tolist() for group in Order.blocks(line, 6).groups()] == [list(range(6)), list(range(6, 12))]
    assert Order.scales(line, [1, 4, 7]).sizes == (1, 4, 7)
    order = Order.of_groups(Cut((4,), (1,)), [[3], [0, 2], [1]])
    assert order.turns == (1, 2, 1, 0)
    assert [group.tolist() for group in order.groups()] == [[3], [0, 2], [1]]


def test_an_order_of_its_own_for_each_sample_depends_on_seed_and_sample_alone():
    order = RandomOrder.revealed(Cut.patches((1, 6, 6), 1), 8)
    alone, many = order.groups(3, [37]), order.groups(3, range(64))
    assert all(torch.equal(one[0], rows[37]) for one, rows in zip(alone, many, strict=True))
    places = torch.cat(many, dim=1)
    assert torch.equal(places.sort(dim=1).values, torch.arange(36).expand(64, -1)), "each position once"
    assert len({tuple(row) for row in places.tolist()}) == 64
    assert not torch.equal(places, torch.cat(order.groups(4, range(64)), dim=1))
    turns = order.of_samples(3, [37])
    assert [(turns[0] == turn).nonzero().flatten().tolist() for turn in range(8)] == [g[0].tolist() for g in alone]


@pytest.mark.parametrize(("length", "steps"), [(256, 64), (49, 12), (5, 5), (16, 1)])
def test_the_share_that_is_left_follows_a_cosine(length, steps):
    sizes = RandomOrder.revealed(Cut((length,), (1,)), steps).sizes
    assert len(sizes) == steps
    assert sum(sizes) == length
    assert min(sizes) >= 1
    left = length - torch.tensor(sizes).cumsum(0)
    for step in range(1, steps):
        wanted = math.floor(length * math.cos(math.pi / 2 * step / steps) + 1e-9)
        previous = length if step == 1 else int(left[step - 2])
        assert int(left[step - 1]) == max(min(wanted, previous - 1), steps - step)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda line: Order.blocks(line, 5), "block is 5, but must divide the 12"),
        (lambda line: Order.of_groups(line, [[0, 0]]), "names position 0 twice"),
        (lambda line: Order.of_groups(line, [list(range(11))]), "leaves out position 11"),
        (lambda line: Order.of_groups(line, [[12]]), "names position 12"),
        (lambda line: Order.of_groups(line, [[], list(range(12))]), "group 0 of the order is empty"),
        (lambda line: Order(line, (0, 2) * 6), "no position is drawn in turn 1"),
        (lambda line: Order(line, (0,)), "turns has 1 entries"),
        (lambda line: Order.scales(line, [1, 4]), "5 positions, but the state has 12"),
        (lambda line: Order.blocks(line, 4, window=0), "window is 0"),
        (lambda line: RandomOrder.revealed(line, 13), "steps is 13, but the state has 12"),
        (lambda line: Cut((12,), (5,)), "5 does not divide the 12"),
        (lambda line: Cut((12, 2), (3,)), "one size for each axis"),
        (lambda line: Cut.patches((12,), 2), "1 to 3 spatial axes"),
        (lambda line: line.split(torch.zeros(2, 11)), r"must be \[B, \(12,\)\]"),
        (lambda line: line.join(torch.zeros(2, 12)), r"must be \[B, \(12, 1\)\]"),
    ],
)
def test_bad_orders_are_one_sentence(make, message):
    with pytest.raises(AnydiffError, match=message):
        make(Cut((12,), (1,)))
