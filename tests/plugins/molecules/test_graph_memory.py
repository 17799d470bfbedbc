"""Memory of the graph networks: what is told beforehand is what a process takes."""

from __future__ import annotations

import pytest

from anydiff.testing.memory import can_measure, measured_memory

TRANSFORMER = """
import torch
from anydiff_molecules.domain import Molecules
from anydiff_molecules.networks import GraphTransformer

def made(batch, size):
    spec = Molecules(size=size).spec
    network = GraphTransformer(spec, width=32, edge_width=16, blocks=2, heads=4, products=4)
    return network, torch.randn(batch, *spec.shape)
"""
GDSS = """
import torch
from anydiff_molecules.gdss import GDSSNetwork
from anydiff_molecules.graph_domain import Graphs

def made(batch, size):
    spec = Graphs(size).spec
    return GDSSNetwork(spec, width=16, edge_layers=3), torch.randn(batch, *spec.shape)
"""


@pytest.mark.skipif(not can_measure(), reason="reads the peak of a process from Linux")
@pytest.mark.parametrize("source", [TRANSFORMER, GDSS], ids=["graph-transformer", "gdss"])
def test_the_estimate_is_within_a_fifth_of_what_a_process_takes(source):
    """Sampling two graphs of 100 nodes, training on 64 of 20."""
    found = measured_memory(source, [2, 5], [([2, 100], False), ([64, 20], True)])
    assert [estimate / measured for estimate, measured in found] == pytest.approx([1, 1], abs=0.2)
