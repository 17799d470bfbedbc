"""StateSpec: packing and unpacking are inverse and share memory, projections are projections, errors name the leaf."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.states import Leaf, StateSpec


@st.composite
def specs(draw):
    leaves = []
    for index in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            size = draw(st.integers(1, 4))
            tail = tuple(draw(st.lists(st.integers(1, 3), max_size=1)))
            leaves.append(
                Leaf(f"l{index}", (size, size, *tail), symmetric=draw(st.booleans()), zero_diagonal=draw(st.booleans()))
            )
        else:
            leaves.append(Leaf(f"l{index}", tuple(draw(st.lists(st.integers(1, 4), min_size=0, max_size=3)))))
    return StateSpec(leaves)


def random_state(spec: StateSpec, rows: int) -> torch.Tensor:
    return torch.randn(rows, *spec.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@given(specs(), st.integers(0, 3))
def test_pack_and_unpack_are_inverse(spec, rows):
    state = random_state(spec, rows)
    parts = spec.unpack(state)
    assert [tuple(v.shape) for v in parts.values()] == [(rows, *leaf.shape) for leaf in spec.leaves]
    assert torch.equal(spec.pack(parts), state)
    again = spec.unpack(spec.pack({name: value.clone() for name, value in parts.items()}))
    assert all(torch.equal(again[name], parts[name]) for name in spec.names)


@given(specs())
def test_unpack_gives_views(spec):
    state = random_state(spec, 2)
    for index, view in enumerate(spec.unpack(state).values()):
        assert view.untyped_storage().data_ptr() == state.untyped_storage().data_ptr()
        view.fill_(float(index))
    expected = torch.cat([torch.full((leaf.size,), float(i)) for i, leaf in enumerate(spec.leaves)]).double()
    assert torch.equal(state.reshape(2, -1), expected.expand(2, -1))
    values = spec.expand({name: float(i) for i, name in enumerate(spec.names)})
    assert torch.equal(values.reshape(-1), expected)


@given(specs())
def test_projection_is_idempotent_orthogonal_and_obeyed(spec):
    state, other = random_state(spec, 3), random_state(spec, 3).flip(0)
    once = spec.project(state)
    torch.testing.assert_close(spec.project(once), once, rtol=0, atol=0)
    for leaf in spec.leaves:
        view = spec.unpack(once.contiguous())[leaf.name]
        if leaf.symmetric:
            assert torch.equal(view, view.transpose(1, 2))
        if leaf.zero_diagonal:
            assert bool((view.diagonal(dim1=1, dim2=2) == 0).all())
    # orthogonal: <Px, y> = <x, Py>
    left, right = (once * other).sum(), (state * spec.project(other)).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_masked_projection_zeroes_absent_nodes_only():
    spec = StateSpec(
        [Leaf("x", (4, 2), mask_axes=(0,)), Leaf("a", (4, 4), symmetric=True, mask_axes=(0, 1)), Leaf("g", (3,))]
    )
    mask = torch.arange(4)[None] < torch.tensor([2, 4])[:, None]
    parts = spec.unpack(spec.project(random_state(spec, 2), mask))
    assert bool((parts["x"][0, 2:] == 0).all())
    assert bool((parts["x"][0, :2] != 0).all())
    assert bool((parts["a"][0, 2:] == 0).all())
    assert bool((parts["a"][0, :, 2:] == 0).all())
    assert bool((parts["a"][1] != 0).all())
    assert bool((parts["g"] != 0).all())


def test_one_leaf_keeps_its_shape_and_many_are_flat():
    assert StateSpec.single((3, 8, 8)).shape == (3, 8, 8)
    assert StateSpec([Leaf("a", (3,)), Leaf("b", (2, 2))]).shape == (7,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StateSpec([]), "at least one leaf"),
        (lambda: StateSpec([Leaf("a", (1,)), Leaf("a", (2,))]), "different names"),
        (lambda: Leaf("a", (0, 3)), "shape"),
        (lambda: Leaf("a", (2, 3), symmetric=True), "equal axes"),
        (lambda: Leaf("a", (3,), zero_diagonal=True), "equal axes"),
        (lambda: Leaf("a", (3,), kind="categorical"), "classes"),
        (lambda: Leaf("a", (3,), classes=4), "classes"),
    ],
)
def test_bad_specs(make, words):
    with pytest.raises(AnydiffError, match=words):
        make()


def test_bad_values():
    spec = StateSpec([Leaf("alpha", (3,)), Leaf("beta", (2, 2))])
    good = {"alpha": torch.zeros(5, 3), "beta": torch.zeros(5, 2, 2)}
    with pytest.raises(AnydiffError, match="'beta' is missing"):
        spec.pack({"alpha": good["alpha"]})
    with pytest.raises(UnknownNameError, match="did you mean 'alpha'"):
        spec.pack(good | {"alhpa": torch.zeros(5, 3)})
    with pytest.raises(AnydiffError, match=r"'beta' has shape \(5, 4\)"):
        spec.pack(good | {"beta": torch.zeros(5, 4)})
    with pytest.raises(AnydiffError, match="rows"):
        spec.pack(good | {"beta": torch.zeros(4, 2, 2)})
    with pytest.raises(AnydiffError, match="state has shape"):
        spec.unpack(torch.zeros(5, 8))
