"""Orbit counts against brute force, MMDs against closed forms, metrics of molecules on made-up sets."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.states import Conditioning
from anydiff_molecules import graph_metrics
from anydiff_molecules.data import QM9
from anydiff_molecules.domain import Molecules
from anydiff_molecules.graph_domain import Graphs
from anydiff_molecules.metrics import FCD, FragmentMMD, LogP, Novelty, Uniqueness, Validity, ValidUniqueNovel
from anydiff_molecules.orbits import orbit_counts

GRAPHLETS = {
    nx.path_graph(2): {1: 0},
    nx.path_graph(3): {1: 1, 2: 2},
    nx.complete_graph(3): {2: 3},
    nx.path_graph(4): {1: 4, 2: 5},
    nx.star_graph(3): {1: 6, 3: 7},
    nx.cycle_graph(4): {2: 8},
    nx.Graph([(0, 1), (1, 2), (2, 0), (0, 3)]): {1: 9, 2: 10, 3: 11},
    nx.Graph([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]): {2: 12, 3: 13},
    nx.complete_graph(4): {3: 14},
}


def brute_force(graph: nx.Graph) -> np.ndarray:
    """Every induced connected subgraph of two to four nodes, told apart by an isomorphism test."""
    out = np.zeros((graph.number_of_nodes(), 15), dtype=int)
    for size in (2, 3, 4):
        for nodes in itertools.combinations(graph.nodes(), size):
            part = graph.subgraph(nodes)
            if not nx.is_connected(part):
                continue
            orbits = next(orbits for pattern, orbits in GRAPHLETS.items() if nx.is_isomorphic(pattern, part))
            for node, degree in part.degree():
                out[node, orbits[degree]] += 1
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_orbits_are_those_of_brute_force(size, chance, seed):
    graph = nx.gnp_random_graph(size, chance, seed=seed)
    assert np.array_equal(orbit_counts(nx.to_numpy_array(graph) > 0), brute_force(graph))


METRICS = [graph_metrics.DegreeMMD, graph_metrics.ClusteringMMD, graph_metrics.OrbitMMD, graph_metrics.SpectralMMD]


@pytest.mark.parametrize("metric", METRICS)
def test_a_set_has_no_distance_from_itself(metric):
    graphs = [nx.gnp_random_graph(8, 0.4, seed=seed) for seed in range(5)]
    assert abs(metric().distance(graphs, graphs)) < 1e-12
    assert abs(metric().distance([nx.complete_graph(5)], [nx.complete_graph(5)] * 3)) < 1e-12


@pytest.mark.parametrize("metric", METRICS)
def test_a_graph_without_nodes_is_far_from_others_but_no_error(metric):
    assert metric().distance([nx.Graph(), nx.Graph()], [nx.complete_graph(5)] * 2) > 0.05


def test_two_deltas_at_distance_d():
    """All nodes of K_4 have degree 3, of a cycle degree 2: MMD² = 2 - 2 exp(-1/2)."""
    value = graph_metrics.DegreeMMD().distance([nx.complete_graph(4)], [nx.cycle_graph(5)])
    assert value == pytest.approx(2 - 2 * math.exp(-0.5), abs=1e-12)
    value = graph_metrics.ClusteringMMD().distance([nx.complete_graph(4)], [nx.cycle_graph(5)])
    assert value == pytest.approx(2 - 2 * math.exp(-(0.99**2) / 0.02), abs=1e-12)


def test_spectra_are_those_of_the_normalised_laplacian():
    """Of K_4: 0 and three times 4/3, in bins of 1/100. A node without edges has 0, as a component of its own."""
    spectrum = graph_metrics.SpectralMMD().features
    for graph, wanted in (
        (nx.complete_graph(4), {0: 0.25, 133: 0.75}),
        (nx.path_graph(2), {0: 0.5, 199: 0.5}),
        (nx.empty_graph(2), {0: 1.0}),
    ):
        found = spectrum(graph)
        assert len(found) == 200
        assert {int(place): float(found[place]) for place in np.flatnonzero(found)} == wanted


def test_orbits_are_compared_by_the_published_gaussian():
    """Per node K_4 has 3 edges, 3 triangles, a K_4; K_3 has 2 and 1: the squared distance is 1 + 4 + 1."""
    value = graph_metrics.OrbitMMD().distance([nx.complete_graph(4)], [nx.complete_graph(3)])
    assert value == pytest.approx(2 - 2 * math.exp(-6 / 1800), abs=1e-12)


def test_earth_mover_is_the_sum_of_cumulated_differences():
    first, second = np.array([[1.0, 0, 0, 0]]), np.array([[0, 0, 0, 1.0], [0.5, 0.5, 0, 0]])
    assert graph_metrics.earth_mover(first, second).tolist() == [[3.0, 0.5]]


def test_unique_and_novel_counts_isomorphic_graphs_once():
    domain = Graphs(20, 10)
    ring, star = nx.cycle_graph(7), nx.star_graph(6)
    turned = nx.relabel_nodes(ring, {i: (3 * i) % 7 for i in range(7)})
    apart = nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    from anydiff_molecules.graph_data import Community

    states = domain.encode([ring, turned, star, apart, Community().graphs[0]])
    samples = SampleSet(states, Conditioning(), domain)
    assert graph_metrics.UniqueNovel().compute(samples, samples) == pytest.approx(2 / 5)


def _set(smiles, size=9):
    domain = Molecules(size=size)
    states = domain.encode(smiles)
    return SampleSet(states, Conditioning(mask=domain.spec.mask_of(states)), domain)


def test_shares_of_molecules():
    known = QM9().smiles[0]
    samples = _set([known, known, "CC(F)(F)F", "CCOCC"])
    assert Validity().compute(samples, samples) == 1.0
    assert Uniqueness().compute(samples, samples) == 0.75
    novel = len({"CC(F)(F)F", "CCOCC"} - Novelty().known)
    assert Novelty().compute(samples, samples) == pytest.approx(novel / 3)
    assert ValidUniqueNovel().compute(samples, samples) == pytest.approx(novel / 4)


def test_novelty_against_a_users_own_file(tmp_path):
    path = tmp_path / "mine.smi"
    path.write_text("\n".join("C" * n for n in range(1, 11)) + "\nnonsense\n")
    samples = _set(["CCC", "CCN"])
    own = Novelty("molecules/file", options={"path": str(path), "size": 10})
    assert own.compute(samples, samples) == 0.5
    assert own.card.features == "training split of molecules/file"


def test_invalid_molecules_are_counted_against_the_model():
    samples = _set(["CC", "CF"])
    views = samples.domain.spec.unpack(samples.states)
    views["edges"][1, 0, 1] = views["edges"][1, 1, 0] = torch.tensor([0.0, 1.0, 0.0])  # C=F
    assert Validity().compute(samples, samples) == 0.5
    assert Uniqueness().compute(samples, samples) == 1.0


def test_distances_of_distributions():
    first, second = _set(["CCO", "CCN"]), _set(["CCCCCCCC", "CCCCCCC"])
    assert LogP().compute(first, first) == 0.0
    assert LogP().compute(first, second) > 2
    assert FragmentMMD().compute(first, first) == pytest.approx(0.0, abs=1e-12)
    assert 0.1 < FragmentMMD().compute(first, second) <= 2
    with pytest.raises(AnydiffError, match="needs at least 2"):
        LogP().compute(_set(["CCO"]), second)


def test_the_frechet_distance_between_chemnet_activations():
    """Runs where the extra ``fcd`` is installed; a hundred molecules are far too few to compare models by."""
    pytest.importorskip("fcd_torch")
    first, second = _set(QM9("train").smiles[:100]), _set(QM9("test").smiles[:100])
    assert FCD().compute(first, first) == pytest.approx(0.0, abs=1e-3)
    assert FCD().compute(first, second) > 0.5
    with pytest.raises(AnydiffError, match="needs at least 100"):
        FCD().compute(_set(["CCO"]), second)
