"""Plain graphs as states: a symmetric adjacency (leaf ``edges``) and one-hot degrees (leaf ``nodes``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from anydiff.data.reading import check_file_size, reading
from anydiff.domains import Domain
from anydiff.errors import AnydiffError, FileFormatError, natural_number
from anydiff.files import atomic_path, check_suffix
from anydiff.states import Conditioning, Known, Leaf, StateSpec
from anydiff_molecules.sizes import decodable, sampled_mask

MAX_BYTES = 1 << 30
"""Bytes of a file of graphs."""


class Graphs(Domain):
    """Undirected ``networkx`` graphs (or ``torch_geometric.data.Data``) of at most ``size`` nodes.

    Leaf ``nodes`` ``(N, F)``: one-hot degree, the last channel for F - 1 or more. Leaf ``edges`` ``(N, N)``: 0 or 1.
    Entries of absent nodes are zero. A state is read back by its edges alone: an edge where the entry is at least 1/2,
    as in GDSS.

    Args:
        size: N, the most nodes.
        degrees: F, channels of the degree.
        counts: weights of 1, 2, ..., N nodes, from which sizes are drawn; None for N always.
        isolated: ``"keep"`` nodes without edges, or ``"drop"`` them when reading states back (GDSS's evaluation).
    """

    name = "graphs"
    suffixes = (".g6", ".graphml")

    def __init__(
        self, size: int = 20, degrees: int = 10, counts: Sequence[float] | None = None, isolated: str = "keep"
    ) -> None:
        self.size = natural_number("size", size)
        self.degrees = natural_number("degrees", degrees, 2)
        self.counts = None if counts is None else [float(weight) for weight in counts]
        if isolated not in ("keep", "drop"):
            raise AnydiffError(f"isolated is {isolated!r}, but must be 'keep' or 'drop'.")
        self.isolated = isolated
        nodes = Leaf("nodes", (self.size, self.degrees), mask_axes=(0,), range=(0.0, 1.0))
        edges = Leaf(
            "edges", (self.size, self.size), symmetric=True, zero_diagonal=True, mask_axes=(0, 1), range=(0.0, 1.0)
        )
        self._spec = StateSpec([nodes, edges])

    @property
    def spec(self) -> StateSpec:
        """Leaves ``nodes`` and ``edges``."""
        return self._spec

    def sample_mask(self, samples: Sequence[int], seed: int) -> Tensor:
        """Sizes drawn by ``counts``, each sample from its own stream."""
        return sampled_mask(self.counts, self.size, samples, seed)

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States of graphs, nodes in their own order.

        Raises:
            AnydiffError: a directed or empty graph, a self-loop, parallel edges, or too many nodes; names the first.
        """
        adjacency = torch.zeros(len(objects), self.size, self.size)
        count = torch.zeros(len(objects), dtype=torch.long)
        for row, given in enumerate(objects):
            graph = self.simple(given, f"graph {row}")
            count[row] = graph.number_of_nodes()
            matrix = nx.to_numpy_array(graph, weight=None, dtype=np.float32)
            adjacency[row, : len(matrix), : len(matrix)] = torch.from_numpy(matrix)
        mask = torch.arange(self.size) < count.reshape(-1, 1)
        degree = adjacency.sum(dim=2).long().clamp_max(self.degrees - 1)
        nodes = torch.nn.functional.one_hot(degree, self.degrees) * mask[..., None]
        return self.spec.pack({"nodes": nodes.float(), "edges": adjacency})

    def simple(self, given: Any, what: str) -> nx.Graph:
        """The graph of a ``networkx`` or PyG object that this domain can hold; ``what`` names it in errors.

        Raises:
            AnydiffError: a directed or empty graph, a self-loop, parallel edges, or too many nodes.
        """
        graph = as_graph(given, what)
        count = graph.number_of_nodes()
        if count > self.size:
            raise AnydiffError(
                f"{what} has more than {self.size} nodes, {count}, and does not fit; raise size or leave it out."
            )
        return graph

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[nx.Graph]:
        """The nearest graphs.

        Absent nodes are those that ``condition.mask`` says, or without it those whose entries are all zero.

        Raises:
            AnydiffError: states of another shape or with values that are not finite.
        """
        states, mask = decodable(self.spec, states, condition, "graphs")
        edges = (self.spec.unpack(states)["edges"] >= 0.5).numpy()
        graphs = []
        for matrix, present in zip(edges, mask.numpy(), strict=True):
            rows = np.flatnonzero(present)
            graph = nx.from_numpy_array(matrix[np.ix_(rows, rows)].astype(np.int8))
            for *_, data in graph.edges(data=True):
                data.clear()
            if self.isolated == "drop":
                graph.remove_nodes_from(list(nx.isolates(graph)))
                graph = nx.convert_node_labels_to_integers(graph)
            graphs.append(graph)
        return graphs

    def to_pyg(self, graphs: Sequence[nx.Graph]) -> list[Any]:
        """``torch_geometric.data.Data`` objects (needs the extra ``pyg``)."""
        from torch_geometric.utils import from_networkx

        return [from_networkx(graph) for graph in graphs]

    @property
    def codec(self) -> dict[str, Any]:
        """The size, the channels of the degree, and whether nodes without edges are read back."""
        return {"size": self.size, "degrees": self.degrees, "isolated": self.isolated}

    def scaffold(self, graph: Any) -> Known:
        """What ``Pipeline.sample(known=, known_mask=)`` needs to complete a graph: its state and which entries stay.

        Edges among its nodes, and edges that are not there, are fixed; degrees are not, as they may grow.
        """
        state = self.encode([graph])
        chosen = self.spec.mask_of(state)[0]
        open_nodes = torch.zeros(1, self.size, self.degrees, dtype=torch.bool)
        fixed = self.spec.pack({"nodes": open_nodes, "edges": (chosen[:, None] & chosen)[None]})
        return Known(state[0], fixed[0])

    def parse_known(self, text: str) -> Known:
        """:meth:`scaffold` of the first graph in a file."""
        return self.scaffold(self.read(text)[0])

    def read(self, path: str | Path) -> list[nx.Graph]:
        """Graphs of a ``.graphml`` file (one graph), or of a file in graph6 format (one per line).

        Raises:
            AnydiffError: no such file, or a single graph that is directed, empty or not simple.
            FileFormatError: not of that format, larger than 1 GiB, or without a graph.
        """
        path = Path(path)
        if not path.is_file():
            raise AnydiffError(f"cannot read graphs from {str(path)!r}: no such file; check the path.")
        check_file_size(path, MAX_BYTES, "file of graphs")
        with reading(path, "a file of graphs", "give graph6 or GraphML"):
            if path.suffix.lower() == ".graphml":
                graphs = [nx.read_graphml(path)]
            else:
                lines = [line.strip() for line in path.read_bytes().splitlines() if line.strip()]
                graphs = [nx.from_graph6_bytes(line) for line in lines]
        if not graphs:
            raise FileFormatError(f"{str(path)!r} holds no graph; give one graph6 line for each.")
        return graphs if len(graphs) > 1 else [as_graph(graphs[0], repr(str(path)))]

    def write(self, objects: Sequence[nx.Graph], path: str | Path) -> None:
        """Write ``.graphml`` (exactly one graph) or ``.g6`` (graph6, one graph per line).

        Raises:
            AnydiffError: another ending, several graphs for one ``.graphml``, or attributes that it cannot hold.
        """
        path = Path(path)
        check_suffix(path, self.suffixes, "graphs")
        if path.suffix.lower() == ".graphml":
            if len(objects) != 1:
                raise AnydiffError(f"{str(path)!r} holds one graph, but {len(objects)} were given; write graph6 (.g6).")
            try:
                with atomic_path(path) as temporary:
                    nx.write_graphml(as_graph(objects[0], "the graph"), temporary)
            except nx.NetworkXError as error:
                raise AnydiffError(f"{str(path)!r} cannot be written ({error}); remove that, or write .g6.") from error
            return
        plain = [nx.convert_node_labels_to_integers(as_graph(each, f"graph {row}")) for row, each in enumerate(objects)]
        with atomic_path(path) as temporary:
            Path(temporary).write_bytes(b"".join(nx.to_graph6_bytes(graph, header=False) for graph in plain))

    def draw(self, objects: Sequence[nx.Graph], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write a grid of node-link pictures (PNG), laid out by a spring model with a fixed seed."""
        from anydiff_molecules.graph_pictures import draw_grid

        draw_grid([as_graph(each, f"graph {row}") for row, each in enumerate(objects)], Path(path), titles)


def as_graph(given: Any, what: str) -> nx.Graph:
    """An undirected simple ``networkx`` graph from one, or from ``torch_geometric.data.Data``.

    Raises:
        AnydiffError: it is directed, empty, has a self-loop or parallel edges, or is no graph.
    """
    graph = given if isinstance(given, nx.Graph) else _from_pyg(given, what)
    if graph.is_directed():
        raise AnydiffError(f"{what} is directed, but only undirected graphs are modelled; use graph.to_undirected().")
    if graph.is_multigraph():
        raise AnydiffError(f"{what} has parallel edges, but only simple graphs are modelled; use nx.Graph(graph).")
    if graph.number_of_nodes() == 0:
        raise AnydiffError(f"{what} has no nodes; leave it out.")
    loops = nx.number_of_selfloops(graph)
    if loops:
        raise AnydiffError(
            f"{what} has {loops} self-loops, which an adjacency with zero diagonal cannot hold; remove them with "
            "graph.remove_edges_from(nx.selfloop_edges(graph))."
        )
    return graph


def _from_pyg(given: Any, what: str) -> nx.Graph:
    if not hasattr(given, "edge_index") or not hasattr(given, "num_nodes"):
        raise AnydiffError(
            f"{what} is a {type(given).__name__}, but must be a networkx.Graph or torch_geometric.data.Data."
        )
    if given.edge_index is None or given.num_nodes is None:
        raise AnydiffError(f"{what} has no edge_index or no nodes; give both.")
    graph: nx.Graph = nx.Graph()
    graph.add_nodes_from(range(int(given.num_nodes)))
    pairs = {(int(i), int(j)) for i, j in given.edge_index.t().tolist()}
    if any((j, i) not in pairs for i, j in pairs):
        raise AnydiffError(f"{what} is directed: its edge_index lacks reversed edges; use ToUndirected().")
    graph.add_edges_from(pairs)
    return graph
