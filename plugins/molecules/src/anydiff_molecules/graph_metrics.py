"""Maximum mean discrepancies between sets of graphs, with the kernels of the GDSS and GraphRNN evaluations.

MMD²(P, Q) = mean k(p, p') + mean k(q, q') - 2 mean k(p, q), a V-statistic (diagonals kept), one feature vector per
graph. The earth mover's distance of 1-D histograms is Σ |cumsum(p - q)|. exp(-W1²/2s²) is not positive definite, so a
value may be slightly negative; it is reported as it is. The kernel stands in the card: values of different kernels
(the total variation of later work) never share a column.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from anydiff.metrics import Metric, MetricCard, SampleSet
from anydiff.registry import registry
from anydiff_molecules.orbits import orbit_counts

Histogram = NDArray[np.float64]


def earth_mover(first: Histogram, second: Histogram, width: float = 1.0) -> NDArray[np.float64]:
    """W1 ``[A, B]`` of histograms ``[A, K]`` and ``[B, K]`` that sum to 1, with ``width`` between neighbouring bins."""
    left, right = np.cumsum(first, axis=1), np.cumsum(second, axis=1)
    distances: NDArray[np.float64] = cdist(left, right, "cityblock")
    return distances * width


def mmd(within_first: NDArray[np.float64], within_second: NDArray[np.float64], across: NDArray[np.float64]) -> float:
    """Squared MMD (V-statistic) from the three kernel matrices."""
    return float(within_first.mean() + within_second.mean() - 2 * across.mean())


class GraphMMD(Metric):
    """A squared MMD between graphs, by a feature vector per graph."""

    name: ClassVar[str]
    kernel: ClassVar[str]

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        version = f"1: squared MMD, V-statistic, {self.kernel}"
        return MetricCard(self.name, "lower", "1", (-1.0, 2.0), 0.0, 2, version=version)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Between the decoded graphs of both sides."""
        self.check(samples, reference)

        def features(each: SampleSet) -> list[Histogram]:
            return [self.features(graph) for graph in _graphs(each)]

        return self._between(*(each.derived_rows(self.name, features) for each in (samples, reference)))

    def distance(self, first: Sequence[nx.Graph], second: Sequence[nx.Graph]) -> float:
        """Squared MMD between two lists of graphs."""
        return self._between(*([self.features(graph) for graph in graphs] for graphs in (first, second)))

    def _between(self, first: Sequence[Histogram], second: Sequence[Histogram]) -> float:
        features = [*first, *second]
        length = max(len(feature) for feature in features)
        table = np.stack([np.pad(feature, (0, length - len(feature))) for feature in features])
        kernel = self.gram(table, table)
        cut = len(first)
        return mmd(kernel[:cut, :cut], kernel[cut:, cut:], kernel[:cut, cut:])

    @abstractmethod
    def features(self, graph: nx.Graph) -> Histogram:
        """One vector of any length; shorter ones are padded with zeros."""

    @abstractmethod
    def gram(self, first: Histogram, second: Histogram) -> NDArray[np.float64]:
        """Kernel matrix of two tables of features."""


class DegreeMMD(GraphMMD):
    """Degree distributions."""

    name = "graphs/degree-mmd"
    kernel = "exp(-W1²/2), degrees as pmf, ground distance |i - j|"

    def features(self, graph: nx.Graph) -> Histogram:
        """Share of nodes of degree 0, 1, ..."""
        degrees = [degree for _, degree in graph.degree()] or [0]
        return np.bincount(degrees) / len(degrees)

    def gram(self, first: Histogram, second: Histogram) -> NDArray[np.float64]:
        """``[n, m]``: exp(-W1²/2) of degree distributions."""
        return np.exp(-(earth_mover(first, second) ** 2) / 2)


class ClusteringMMD(GraphMMD):
    """Distributions of local clustering coefficients."""

    name = "graphs/clustering-mmd"
    kernel = "exp(-W1²/(2·0.1²)), 100 bins on [0, 1], ground distance |i - j|/100"

    def features(self, graph: nx.Graph) -> Histogram:
        """Share of nodes per bin."""
        values = list(nx.clustering(graph).values()) or [0.0]
        return np.histogram(values, bins=100, range=(0.0, 1.0))[0] / len(values)

    def gram(self, first: Histogram, second: Histogram) -> NDArray[np.float64]:
        """``[n, m]``: exp(-W1²/(2·0.1²)) of histograms of clustering coefficients."""
        return np.exp(-(earth_mover(first, second, 0.01) ** 2) / (2 * 0.1**2))


class SpectralMMD(GraphMMD):
    """Eigenvalues of the normalised Laplacian."""

    name = "graphs/spectral-mmd"
    kernel = "exp(-W1²/2), 200 bins on [-1e-5, 2] of normalised-Laplacian eigenvalues, ground distance |i - j|"

    def features(self, graph: nx.Graph) -> Histogram:
        """Share of eigenvalues per bin."""
        if graph.number_of_nodes() == 0:
            return np.ones(1)
        adjacency = nx.to_numpy_array(graph, weight=None)
        degree = adjacency.sum(axis=1)
        root = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0.0)
        laplacian = np.diag((degree > 0).astype(float)) - root[:, None] * adjacency * root
        values = np.linalg.eigvalsh(laplacian).clip(-1e-5, 2.0)
        return np.histogram(values, bins=200, range=(-1e-5, 2.0))[0] / len(values)

    def gram(self, first: Histogram, second: Histogram) -> NDArray[np.float64]:
        """``[n, m]``: exp(-W1²/2) of histograms of eigenvalues."""
        return np.exp(-(earth_mover(first, second) ** 2) / 2)


class OrbitMMD(GraphMMD):
    """Counts of graphlet orbits with up to four nodes, averaged over the nodes."""

    name = "graphs/orbit-mmd"
    kernel = "exp(-|x - y|²/(2·30²)), mean over nodes of 15 orbit counts, not normalised"

    def features(self, graph: nx.Graph) -> Histogram:
        """Mean orbit counts ``[15]``."""
        if graph.number_of_nodes() == 0:
            return np.zeros(15)
        counts: Histogram = orbit_counts(nx.to_numpy_array(graph, weight=None) > 0).mean(axis=0)
        return counts

    def gram(self, first: Histogram, second: Histogram) -> NDArray[np.float64]:
        """``[n, m]``: exp(-|x - y|²/(2·30²)) of mean orbit counts."""
        values: NDArray[np.float64] = np.exp(-cdist(first, second, "sqeuclidean") / (2 * 30.0**2))
        return values


class UniqueNovel(Metric):
    """Graphs that are connected, not isomorphic to another sample before them, nor to a training graph.

    Args:
        dataset: the data set whose training split is meant.
        options: its options.
    """

    def __init__(self, dataset: str = "graphs/community", options: dict[str, Any] | None = None) -> None:
        self.dataset, self.options = dataset, dict(options or {})

    @property
    def card(self) -> MetricCard:
        """Higher is better; between 0 and 1."""
        return MetricCard(
            "graphs/unique-novel", "higher", "1", (0.0, 1.0), 1.0, 1, features=f"training split of {self.dataset}",
            version="1: connected, not isomorphic to each other or to training / all samples",
        )  # fmt: skip

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Share of the sampled graphs that are connected, unlike every training graph and unlike one another."""
        self.check(samples, reference)
        seen = {key: list(group) for key, group in self._training.items()}
        graphs = _graphs(samples)
        good = [graph for graph in graphs if graph.number_of_nodes() and nx.is_connected(graph)]
        return sum(_is_new(graph, seen) for graph in good) / len(graphs)

    @functools.cached_property
    def _training(self) -> dict[str, list[nx.Graph]]:
        """The training graphs, grouped by a hash that isomorphic ones share."""
        training = registry().build("datasets", self.dataset, **{**self.options, "split": "train"})
        seen: dict[str, list[nx.Graph]] = {}
        for graph in training.graphs:
            _is_new(graph, seen)
        return seen


def _graphs(samples: SampleSet) -> list[nx.Graph]:
    return samples.derived_rows("graphs", lambda each: each.domain.decode(each.states, each.condition))


def _is_new(graph: nx.Graph, seen: dict[str, list[nx.Graph]]) -> bool:
    """Whether no graph seen is isomorphic; from now on it is seen."""
    bare = nx.Graph(graph.edges())
    # Degrees are what the hash begins with anyway; of graphs without any attribute networkx warns.
    nx.set_node_attributes(bare, dict(bare.degree), "degree")
    group = seen.setdefault(nx.weisfeiler_lehman_graph_hash(bare, node_attr="degree", iterations=3), [])
    if any(nx.is_isomorphic(bare, other) for other in group):
        return False
    group.append(bare)
    return True
