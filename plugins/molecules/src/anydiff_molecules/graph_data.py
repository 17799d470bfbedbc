"""Graphs generated from a seed (community, ego-like, planar, stochastic block model, grid), and a user's own file.

The generators follow the sets of the literature in kind and size; the graphs themselves are drawn here. Ego graphs of
the Citeseer network are not to be had from a registry, so ``graphs/ego`` cuts them from random networks with the same
heavy tail.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.spatial import Delaunay
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split, content_hash, domain_of_data, every_tenth
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning
from anydiff_molecules.graph_domain import Graphs
from anydiff_molecules.sizes import histogram

Generator = np.random.Generator


class GraphSet(Dataset):
    """A list of graphs in memory; a subclass generates it.

    Args:
        name: the registered name.
        graphs: the graphs of the split.
        domain: their codec.
    """

    def __init__(self, name: str, graphs: Sequence[nx.Graph], domain: Graphs) -> None:
        self.name = name
        self.graphs = list(graphs)
        self._domain = domain
        self._states = domain.encode(self.graphs)
        count = torch.tensor([graph.number_of_nodes() for graph in self.graphs])
        self._mask = torch.arange(domain.size) < count.reshape(-1, 1)

    @property
    def hash(self) -> str:
        """sha256 of the adjacencies and sizes."""
        return content_hash(repr((self._domain.size, self._domain.degrees)), self._states, self._mask)

    @property
    def statistics(self) -> dict[str, Any]:
        """The share of graphs with 1, 2, ... nodes."""
        return {"counts": histogram(self._mask.sum(dim=1), self._domain.size)}

    @property
    def domain(self) -> Graphs:
        """The codec of these graphs."""
        return self._domain

    def __len__(self) -> int:
        return len(self.graphs)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, D]`` and the mask ``[B, N]``."""
        rows = torch.as_tensor(list(indices), dtype=torch.long)
        return self._states[rows], Conditioning(mask=self._mask[rows])


def _split(draw: Callable[[Generator], nx.Graph], split: str, train: int, test: int, seed: int) -> list[nx.Graph]:
    """``train`` or ``test`` different graphs: both from one stream, the test graphs first."""
    check_split(split)
    natural_number("train", train)
    natural_number("test", test)
    generator = np.random.default_rng(seed)
    found: list[nx.Graph] = []
    seen: set[tuple[int, frozenset[tuple[int, int]]]] = set()
    for _ in range(100 * (train + test)):
        graph = nx.convert_node_labels_to_integers(draw(generator))
        key = graph.number_of_nodes(), frozenset((min(edge), max(edge)) for edge in graph.edges())
        if key not in seen:
            seen.add(key)
            found.append(graph)
        if len(found) == train + test:
            return found[:test] if split == "test" else found[test:]
    raise AnydiffError(
        f"only {len(found)} different graphs could be drawn where {train + test} are wanted; lower train or test."
    )


def _domain(domain: Domain | None, size: int, usual: int, degrees: int | None, isolated: str | None) -> Graphs:
    """The domain of generated graphs, whose ``size`` is theirs to say; ``usual`` degrees where there is none."""
    own = {"size": size, "degrees": degrees, "isolated": isolated}
    return domain_of_data(Graphs, domain, {"degrees": usual, "isolated": "drop"}, **own)


def community(generator: Generator, low: int, high: int, inside: float) -> nx.Graph:
    """Two communities of equal size, edges inside with probability ``inside``, and 5 % of N edges between them."""
    while True:
        size = int(generator.integers(low, high + 1))
        half = size // 2
        blocks = [range(half), range(half, size)]
        graph = nx.Graph()
        graph.add_nodes_from(range(size))
        for block in blocks:
            graph.add_edges_from((i, j) for i in block for j in block if i < j and generator.random() < inside)
        for _ in range(max(1, round(0.05 * size))):
            graph.add_edge(int(generator.choice(blocks[0])), int(generator.choice(blocks[1])))
        if nx.is_connected(graph):
            return graph


class Community(GraphSet):
    """Two communities, 12 to 20 nodes (``community-small`` of You et al., GraphRNN, 2018).

    Args:
        split: ``"train"`` or ``"test"``.
        train: training graphs.
        test: test graphs.
        seed: of the generator.
        low: fewest nodes.
        high: most nodes.
        inside: edge probability inside a community.
        degrees: channels of the one-hot degree; None for the domain's.
        isolated: None for the domain's.
        domain: the recipe's; None makes one of 10 degrees that drops nodes without edges.
    """

    def __init__(
        self,
        split: Split = "train",
        train: int = 100,
        test: int = 100,
        seed: int = 0,
        low: int = 12,
        high: int = 20,
        inside: float = 0.7,
        degrees: int | None = None,
        isolated: str | None = None,
        domain: Domain | None = None,
    ) -> None:
        graphs = _split(lambda g: community(g, low, high, inside), split, train, test, seed)
        super().__init__("graphs/community", graphs, _domain(domain, high, 10, degrees, isolated))
        self.low = low

    @property
    def statistics(self) -> dict[str, Any]:
        """The generator's own law of sizes: each from ``low`` to ``high`` is as likely as the others."""
        return {"counts": [float(size >= self.low) for size in range(1, self._domain.size + 1)]}


class Ego(GraphSet):
    """Neighbourhoods of radius 1 in random networks of heavy-tailed degree, 4 to ``size`` nodes.

    Args:
        split: ``"train"`` or ``"test"``.
        train: training graphs.
        test: test graphs.
        seed: of the generator.
        size: most nodes.
        isolated: None for the domain's.
        domain: the recipe's; None makes one that drops nodes without edges.
    """

    def __init__(
        self,
        split: Split = "train",
        train: int = 200,
        test: int = 100,
        seed: int = 0,
        size: int = 18,
        isolated: str | None = None,
        domain: Domain | None = None,
    ) -> None:
        def draw(generator: Generator) -> nx.Graph:
            while True:
                whole = nx.powerlaw_cluster_graph(200, 2, 0.6, seed=int(generator.integers(2**31)))
                graph = nx.ego_graph(whole, int(generator.integers(200)))
                if 4 <= graph.number_of_nodes() <= size:
                    return graph

        super().__init__(
            "graphs/ego", _split(draw, split, train, test, seed), _domain(domain, size, 17, None, isolated)
        )


class Planar(GraphSet):
    """Delaunay triangulations of uniform points: connected planar graphs of ``size`` nodes (Martinkus et al. 2022).

    Args:
        split: ``"train"`` or ``"test"``.
        train: training graphs.
        test: test graphs.
        seed: of the generator.
        size: nodes of every graph.
        isolated: None for the domain's.
        domain: the recipe's; None makes one that drops nodes without edges.
    """

    def __init__(
        self,
        split: Split = "train",
        train: int = 128,
        test: int = 64,
        seed: int = 0,
        size: int = 64,
        isolated: str | None = None,
        domain: Domain | None = None,
    ) -> None:
        def draw(generator: Generator) -> nx.Graph:
            corners = Delaunay(generator.random((size, 2))).simplices
            graph = nx.Graph()
            graph.add_nodes_from(range(size))
            graph.add_edges_from(
                (int(a), int(b)) for t in corners for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))
            )
            return graph

        super().__init__(
            "graphs/planar", _split(draw, split, train, test, seed), _domain(domain, size, 12, None, isolated)
        )


class BlockModel(GraphSet):
    """Stochastic block models: 2 to 5 blocks of 5 to 10 nodes, edges inside 0.6, between 0.02.

    Args:
        split: ``"train"`` or ``"test"``.
        train: training graphs.
        test: test graphs.
        seed: of the generator.
        isolated: None for the domain's.
        domain: the recipe's; None makes one that drops nodes without edges.
    """

    def __init__(
        self,
        split: Split = "train",
        train: int = 128,
        test: int = 64,
        seed: int = 0,
        isolated: str | None = None,
        domain: Domain | None = None,
    ) -> None:
        def draw(generator: Generator) -> nx.Graph:
            while True:
                blocks = generator.integers(5, 11, size=int(generator.integers(2, 6))).tolist()
                chances = np.full((len(blocks), len(blocks)), 0.02) + np.eye(len(blocks)) * 0.58
                graph = nx.Graph(
                    nx.stochastic_block_model(blocks, chances, seed=int(generator.integers(2**31))).edges()
                )
                if graph.number_of_nodes() == sum(blocks) and nx.is_connected(graph):
                    return graph

        super().__init__("graphs/sbm", _split(draw, split, train, test, seed), _domain(domain, 50, 12, None, isolated))


class Grid(GraphSet):
    """Rectangular grids with sides of 4 to 9 nodes, their nodes in random order.

    Args:
        split: ``"train"`` or ``"test"``.
        train: training graphs.
        test: test graphs.
        seed: of the generator.
        isolated: None for the domain's.
        domain: the recipe's; None makes one that drops nodes without edges.
    """

    def __init__(
        self,
        split: Split = "train",
        train: int = 64,
        test: int = 32,
        seed: int = 0,
        isolated: str | None = None,
        domain: Domain | None = None,
    ) -> None:
        def draw(generator: Generator) -> nx.Graph:
            rows, columns = (int(side) for side in generator.integers(4, 10, size=2))
            graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(rows, columns))
            order = generator.permutation(graph.number_of_nodes()).tolist()
            shuffled = nx.Graph()
            shuffled.add_nodes_from(range(len(order)))
            shuffled.add_edges_from((order[i], order[j]) for i, j in graph.edges())
            return shuffled

        super().__init__("graphs/grid", _split(draw, split, train, test, seed), _domain(domain, 81, 5, None, isolated))


class GraphFile(GraphSet):
    """A user's own graphs: a graph6 or GraphML file, or a list of ``networkx``/PyG graphs; every tenth is test.

    What cannot be held (directed, self-loops, parallel edges, no nodes, too many) is left out and counted in a warning.

    Args:
        path: the file, or the graphs themselves (a PyG data set, say).
        split: ``"train"`` or ``"test"``.
        size: most nodes; None for the domain's.
        degrees: channels of the one-hot degree; None for the domain's.
        strict: refuse the first graph that cannot be held.
        isolated: None for the domain's: with ``"drop"`` nodes without edges are learned, but in no graph that metrics
            and files see; a warning counts the graphs that have some.
        domain: the recipe's; None makes one of 20 nodes and 10 degrees that drops nodes without edges.
    """

    def __init__(
        self,
        path: Any,
        split: Split = "train",
        size: int | None = None,
        degrees: int | None = None,
        strict: bool = False,
        isolated: str | None = None,
        domain: Domain | None = None,
    ) -> None:
        check_split(split)
        own = {"size": size, "degrees": degrees, "isolated": isolated}
        made = domain_of_data(Graphs, domain, {"size": 20, "degrees": 10, "isolated": "drop"}, **own)
        is_file = isinstance(path, (str, Path))
        graphs = made.read(path) if is_file else list(path)
        kept, left_out = [], Counter[str]()
        for index, graph in enumerate(graphs):
            try:
                kept.append(made.simple(graph, f"graph {index}" if strict else "it"))
            except AnydiffError as error:
                if strict:
                    raise
                left_out[re.split("[,;] ", str(error))[0]] += 1
        what = repr(str(path)) if is_file else "path"
        report = " ".join(f"{count} of {len(graphs)} were left out: {why}." for why, count in left_out.most_common())
        if len(kept) < 10:
            raise AnydiffError(
                f"{what} holds {len(kept)} graphs, but at least 10 are needed for two splits. {report}".strip()
            )
        alone = sum(1 for graph in kept if made.isolated == "drop" and nx.number_of_isolates(made.simple(graph, "it")))
        if alone:
            report += (
                f" {alone} have nodes without edges, which graphs that are read back leave out (isolated='drop'); set "
                "domain.options.isolated=keep to keep them."
            )
        if report:
            warnings.warn(f"{what}: {report.strip()}", stacklevel=2)
        super().__init__("graphs/file", [kept[place] for place in every_tenth(len(kept), split)], made)
