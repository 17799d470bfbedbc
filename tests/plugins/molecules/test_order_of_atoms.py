"""Metrics on molecules that are not valid are those of the graphs, whatever the order of their atoms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rdkit import Chem

from anydiff.metrics import SampleSet
from anydiff.states import Conditioning
from anydiff_molecules import chemistry
from anydiff_molecules.domain import Molecules
from anydiff_molecules.metrics import NSPDKMMD, DrugLikeness, FragmentMMD, LogP, Weight

DOMAIN = Molecules()


def random_states(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Graphs that are mostly invalid and in fragments."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(4, 10, (count,), generator=generator)
    atoms = torch.randint(0, 4, (count, 9), generator=generator)
    bonds = torch.randint(1, 4, (count, 9, 9), generator=generator)
    bonds = torch.triu(bonds * (torch.rand(count, 9, 9, generator=generator) < 0.28), 1)
    present = torch.arange(9) < sizes[:, None]
    bonds = bonds * present[:, None] * present[..., None]
    return DOMAIN.pack(sizes, atoms, bonds + bonds.transpose(1, 2))


def turned(states: torch.Tensor, mask: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same graphs with their atoms in another order."""
    leaves = DOMAIN.spec.unpack(states)
    orders = [np.random.default_rng([seed, row]).permutation(9).tolist() for row in range(len(states))]
    nodes = torch.stack([leaves["nodes"][row][order] for row, order in enumerate(orders)])
    edges = torch.stack([leaves["edges"][row][order][:, order] for row, order in enumerate(orders)])
    kept = torch.stack([mask[row][order] for row, order in enumerate(orders)])
    return DOMAIN.spec.pack({"nodes": nodes, "edges": edges}), kept


@pytest.mark.parametrize("kind", [LogP, Weight, DrugLikeness, NSPDKMMD, FragmentMMD])
def test_a_metric_is_the_same_for_every_order_of_atoms(kind):
    """log P of one set was 2.53 to 2.66."""
    states, mask = random_states(60, 0)
    reference = DOMAIN.encode(["CCO", "CC(=O)N", "c1ccccc1", "CCN", "C1CO1", "CCCF"])
    truth = SampleSet(reference, Conditioning(mask=DOMAIN.spec.mask_of(reference)), DOMAIN)
    values = []
    for seed in range(3):
        again, kept = (states, mask) if seed == 0 else turned(states, mask, seed)
        values.append(kind().compute(SampleSet(again, Conditioning(mask=kept), DOMAIN), truth))
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-9)


def test_the_correction_is_that_of_the_graph():
    states, mask = random_states(40, 1)
    first, second = (DOMAIN.decode(s, Conditioning(mask=m)) for s, m in ((states, mask), turned(states, mask, 5)))
    assert sum(not chemistry.is_valid(each) for each in first) > 20
    for one, two in zip(first, second, strict=True):
        names = [None if c is None else chemistry.canonical(c) for c in map(chemistry.corrected, (one, two))]
        assert names[0] == names[1]


def test_valid_molecules_stay_as_they_are():
    molecule = Chem.MolFromSmiles("OCC(=O)Nc1ccccc1")
    assert Chem.MolToSmiles(chemistry.corrected(molecule), canonical=False) == Chem.MolToSmiles(
        molecule, canonical=False
    )
