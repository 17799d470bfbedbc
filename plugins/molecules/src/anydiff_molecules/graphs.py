"""The graph domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"
_PRIOR = "the published schedule does not reach its prior, and starts from N(0, I) all the same"
_NEW = "any connected random graph is new, and the kit repeats the hundred test graphs, which are then not unique"
ANYDIFF_EXPECTED_FAILURES = {
    "path.ends[graphs/gdss-vp]": _PRIOR,
    "metric.identity[graphs/unique-novel]": _NEW,
    "metric.direction[graphs/unique-novel]": _NEW,
}
ANYDIFF_CHECK_OPTIONS = {
    "graphs/gdss": {"width": 8, "edge_layers": 2, "attention": 8, "heads": 2},
    "graphs/ego": {"train": 30, "test": 15},
    "graphs/planar": {"train": 30, "test": 15},
    "graphs/sbm": {"train": 30, "test": 15},
}


@hookimpl
def register_domains(register: Register) -> None:
    """Undirected simple graphs."""
    register(
        "graphs",
        "undirected graphs, networkx or PyG objects",
        "anydiff_molecules.graph_domain:Graphs",
        beside_codec=["counts"],  # how many nodes samples have, not what a state means
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """Generated graphs and a user's own."""
    data = "anydiff_molecules.graph_data"
    register("graphs/community", "two communities, 12 to 20 nodes, generated", f"{data}:Community")
    register("graphs/ego", "neighbourhoods in heavy-tailed networks, up to 18 nodes, generated", f"{data}:Ego")
    register("graphs/planar", "Delaunay triangulations of 64 points, generated", f"{data}:Planar")
    register("graphs/sbm", "stochastic block models, up to 50 nodes, generated", f"{data}:BlockModel")
    register("graphs/grid", "rectangular grids, up to 81 nodes, generated", f"{data}:Grid")
    register("graphs/file", "your own graphs: graph6, GraphML, networkx or PyG", f"{data}:GraphFile")


@hookimpl
def register_paths(register: Register) -> None:
    """GDSS's schedule."""
    register("graphs/gdss-vp", "VP from 0.1 to 1, started from N(0, I)", "anydiff_molecules.gdss:GDSSPath")


@hookimpl
def register_networks(register: Register) -> None:
    """GDSS's score networks."""
    register("graphs/gdss", "the two score networks of GDSS", "anydiff_molecules.gdss:GDSSNetwork", equivariant="nodes")


@hookimpl
def register_solvers(register: Register) -> None:
    """GDSS's samplers."""
    register(
        "graphs/gdss-pc",
        "GDSS's predictor-corrector",
        "anydiff_molecules.gdss_solvers:GDSSPredictorCorrector",
        order=1,
        kind="discretisation",
        calls_per_step=2,
        stochastic=True,
        source="Jo et al. 2022",
    )
    register(
        "graphs/s4",
        "GDSS's symmetric splitting, one call per step",
        "anydiff_molecules.gdss_solvers:S4",
        order=1,
        kind="splitting",
        calls_per_step=1,
        stochastic=True,
        source="Jo et al. 2022",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """Discrepancies of graph statistics."""
    metrics = "anydiff_molecules.graph_metrics"
    register("graphs/degree-mmd", "MMD of degree distributions", f"{metrics}:DegreeMMD")
    register("graphs/clustering-mmd", "MMD of clustering coefficients", f"{metrics}:ClusteringMMD")
    register("graphs/orbit-mmd", "MMD of graphlet orbits of up to four nodes", f"{metrics}:OrbitMMD")
    register("graphs/spectral-mmd", "MMD of Laplacian spectra", f"{metrics}:SpectralMMD")
    register("graphs/unique-novel", "connected, distinct and new graphs", f"{metrics}:UniqueNovel")


@hookimpl
def register_recipes(register: Register) -> None:
    """Community-small by a graph transformer, and as GDSS was published."""
    register(
        "graphs/community-small",
        "two communities, 12 to 20 nodes; graph transformer",
        "anydiff_molecules.recipes:community_small",
        weights="anydiff_molecules:weights/community-small.safetensors",
        quick=True,
    )
    register(
        "graphs/gdss",
        "GDSS on two communities, 12 to 20 nodes",
        "anydiff_molecules.recipes:gdss",
        weights="anydiff_molecules:weights/gdss.safetensors",
        quick=True,
    )


@hookimpl
def register_tasks(register: Register) -> None:
    """Small graphs."""
    register(
        "graphs/community-small@1",
        "100 graphs of two communities, 12 to 20 nodes",
        "anydiff_molecules.tasks:community_small",
    )
