"""Plain graphs: codec, files, refusals, generated sets, PyG objects."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff_molecules.graph_data import BlockModel, Community, Ego, GraphFile, Grid, Planar
from anydiff_molecules.graph_domain import Graphs

GRAPHS = [nx.cycle_graph(5), nx.star_graph(4), nx.disjoint_union(nx.path_graph(3), nx.path_graph(2))]


def test_decode_gives_the_graphs_back():
    domain = Graphs(8, 4)
    states = domain.encode(GRAPHS)
    again = domain.decode(states)
    assert [sorted(graph.edges()) for graph in again] == [sorted(graph.edges()) for graph in GRAPHS]
    assert torch.equal(domain.encode(again), states)
    views = domain.spec.unpack(states)
    assert views["nodes"][1, 0].tolist() == [0, 0, 0, 1], "degree 4 is in the last of 4 channels"


def test_isolated_nodes_are_kept_or_dropped():
    graph = nx.Graph([(0, 1)])
    graph.add_node(2)
    state = Graphs(4, 3).encode([graph])
    assert Graphs(4, 3).decode(state)[0].number_of_nodes() == 3
    assert Graphs(4, 3, isolated="drop").decode(state)[0].number_of_nodes() == 2


def test_graph6_files(tmp_path):
    domain = Graphs(8, 4)
    domain.write(GRAPHS, tmp_path / "out.g6")
    (tmp_path / "out").write_bytes((tmp_path / "out.g6").read_bytes())  # graph6 is read under any name
    for name in ("out.g6", "out"):
        assert torch.equal(domain.encode(domain.read(tmp_path / name)), domain.encode(GRAPHS))


def test_graphml_files(tmp_path):
    domain = Graphs(8, 4)
    domain.write(GRAPHS[:1], tmp_path / "one.graphml")
    assert nx.is_isomorphic(domain.read(tmp_path / "one.graphml")[0], GRAPHS[0])
    with pytest.raises(AnydiffError, match="holds one graph, but 3"):
        domain.write(GRAPHS, tmp_path / "one.graphml")


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (nx.DiGraph([(0, 1)]), "graph 0 is directed"),
        (nx.MultiGraph([(0, 1), (0, 1)]), "parallel edges"),
        (nx.Graph([(0, 0), (0, 1)]), "has 1 self-loops"),
        (nx.Graph(), "has no nodes"),
        (nx.path_graph(9), "graph 0 has more than 8 nodes, 9, and does not fit"),
        ("C-C", "must be a networkx.Graph"),
    ],
)
def test_what_cannot_be_held_is_named(graph, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        Graphs(8, 4).encode([graph])


def test_files_that_are_none(tmp_path):
    with pytest.raises(AnydiffError, match="no such file"):
        Graphs().read(tmp_path / "absent.g6")
    (tmp_path / "bad.graphml").write_text("<nothing>")
    with pytest.raises(FileFormatError, match="give graph6 or GraphML"):
        Graphs().read(tmp_path / "bad.graphml")
    (tmp_path / "empty.g6").write_text("\n")
    with pytest.raises(FileFormatError, match="holds no graph"):
        Graphs().read(tmp_path / "empty.g6")
    nx.write_graphml(nx.DiGraph([(0, 1)]), tmp_path / "directed.graphml")
    with pytest.raises(AnydiffError, match=r"directed.graphml' is directed, but only undirected"):
        Graphs().read(tmp_path / "directed.graphml")
    graph = nx.path_graph(2)
    graph.nodes[0]["list"] = [1]
    with pytest.raises(AnydiffError, match=r"cannot be written .*list.*write .g6"):
        Graphs().write([graph], tmp_path / "lists.graphml")
    assert not (tmp_path / "lists.graphml").exists()


def test_pyg_objects_in_and_out():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data

    domain = Graphs(8, 4)
    back = domain.to_pyg(GRAPHS)
    assert torch.equal(domain.encode(back), domain.encode(GRAPHS))
    with pytest.raises(AnydiffError, match="lacks reversed edges"):
        domain.encode([Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2)])
    with pytest.raises(AnydiffError, match="no edge_index"):
        domain.encode([Data(x=torch.ones(2, 1))])


@pytest.mark.parametrize("kind", [Community, Ego, Planar, BlockModel, Grid])
def test_generated_sets_are_reproducible_connected_and_apart(kind):
    one, two = kind("train", train=12, test=5), kind("train", train=12, test=5)
    assert one.hash == two.hash
    assert kind("train", train=12, test=5, seed=1).hash != one.hash
    assert len(kind("test", train=12, test=5)) == 5
    assert all(nx.is_connected(graph) for graph in one.graphs)
    with pytest.raises(UnknownNameError):
        kind("validation")


def test_each_set_is_what_it_is_called():
    assert all(nx.check_planarity(graph)[0] for graph in Planar(train=5, test=2).graphs)
    assert all(12 <= graph.number_of_nodes() <= 20 for graph in Community(train=20, test=2).graphs)
    assert all(max(dict(graph.degree()).values()) <= 4 for graph in Grid(train=5, test=2).graphs)
    with pytest.raises(AnydiffError, match="different graphs could be drawn"):
        Community(train=60, test=5, low=4, high=4, inside=1.0)


def test_a_users_graphs():
    graphs = [nx.gnp_random_graph(8, 0.5, seed=seed) for seed in range(20)]
    assert (len(GraphFile(graphs)), len(GraphFile(graphs, "test"))) == (18, 2)
    with pytest.raises(AnydiffError, match="at least 10"):
        GraphFile(graphs[:3])


def test_what_a_users_graphs_lose_is_counted_by_reason(tmp_path):
    good = [nx.gnp_random_graph(8, 0.5, seed=seed) for seed in range(12)]
    bad = [nx.path_graph(30), nx.path_graph(25), nx.DiGraph([(0, 1)]), nx.Graph([(0, 0)]), nx.Graph()]
    with pytest.warns(UserWarning, match="1 of 17 were left out: it is directed") as caught:
        assert len(GraphFile([*bad, *good])) == 11
    text = str(caught[0].message)
    for part in ("it has more than 20 nodes", "it has 1 self-loops", "it has no nodes."):
        assert part in text, part
    with pytest.raises(AnydiffError, match="graph 2 is directed, but only undirected"):
        GraphFile([*good[:2], *bad[2:], *good], strict=True)
    with pytest.raises(AnydiffError, match=r"holds 3 graphs, but at least 10 are needed.*1 of 8 were left out"):
        GraphFile([*bad, *good[:3]])


def test_a_known_subgraph_stays_as_it_is(tmp_path):
    from anydiff.pipeline import load

    pipeline, square = load("graphs/community-small"), nx.cycle_graph(4)
    pipeline.domain.write([square], tmp_path / "square.g6")
    state, fixed = pipeline.domain.parse_known(str(tmp_path / "square.g6"))
    drawn = pipeline.sample_set(3, nfe=4, known=state, known_mask=fixed)
    for graph in Graphs(20, 10).decode(drawn.states, drawn.condition):
        assert sorted(graph.subgraph(range(4)).edges()) == sorted(square.edges())
    assert not pipeline.domain.spec.unpack(fixed[None])["nodes"].any(), "degrees may grow"


def test_a_picture(tmp_path):
    Graphs(8, 4).draw(GRAPHS, tmp_path / "graphs.png", ["a", "b", "c"])
    assert (tmp_path / "graphs.png").read_bytes().startswith(b"\x89PNG")
