"""Named experiments on graphs and molecules. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe
from anydiff_molecules.bundle import PARTS

_QM9_COUNTS = [2e-05, 2e-05, 2e-05, 0.00023, 0.00108, 0.00482, 0.02353, 0.13745, 0.83283]
_COMMUNITY_COUNTS = [*([0.0] * 11), *([1.0] * 9)]
_ZINC_COUNTS = [
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0003, 0.001, 0.0023, 0.01055, 0.01655, 0.0259, 0.04, 0.05965, 0.0905, 0.12715,
    0.1668, 0.2106, 0.2487,
]  # fmt: skip


def _metrics(dataset: str) -> list[dict[str, Any]]:
    options = {"dataset": dataset}
    return [
        {"name": "molecules/validity"},
        {"name": "molecules/valency"},
        {"name": "molecules/connected"},
        {"name": "molecules/uniqueness"},
        {"name": "molecules/novelty", "options": options},
        {"name": "molecules/vun", "options": options},
        {"name": "molecules/logp"},
        {"name": "molecules/qed"},
        {"name": "molecules/weight"},
        {"name": "molecules/fragment-mmd"},
    ]


def qm9() -> Recipe:
    """QM9 as heavy-atom graphs, with log P as a condition that may be left out."""
    return _molecules(
        "qm9",
        "QM9, up to 9 heavy atoms",
        counts=_QM9_COUNTS,
        scale=[0.33, 0.95],
        training={"steps": 40000, "batch_size": 64},
        nfe=50,
    )


def zinc() -> Recipe:
    """ZINC250k, the molecules of up to 20 heavy atoms, with log P as a condition that may be left out."""
    return _molecules(
        "zinc",
        "ZINC250k, molecules of up to 20 heavy atoms",
        counts=_ZINC_COUNTS,
        scale=[1.71, 1.45],
        training={"steps": 24000, "batch_size": 32},
        nfe=50,
    )


def _molecules(
    key: str, title: str, *, counts: list[float], scale: list[float], training: dict[str, Any], nfe: int
) -> Recipe:
    """A graph transformer on one of the bundled sets; ``scale`` is (mean, deviation) of its log P."""
    name, part = f"molecules/{key}", PARTS[key]
    condition = {"condition": "logp", "condition_scale": scale}
    recipe = {
        "name": name,
        "help": f"{title}; graph transformer, log P as condition",
        "domain": {
            "name": "molecules",
            "options": {"types": list(part.types), "size": part.size, "counts": counts, **condition},
        },
        "dataset": {"name": name, "options": condition},
        "network": {
            "name": "molecules/graph-transformer",
            "options": {"width": 64, "edge_width": 24, "blocks": 4, "heads": 4, "products": 8},
        },
        "path": "vp-cosine",
        "parametrization": "data",
        # The loss is a mean over nodes plus w times one over pairs; (N-1)/2 pairs to a node make it the joint one. Most
        # training times lie where bonds are decided, σ/α from 1/4 to 2: before, nothing can be known, after, all is.
        "objective": {
            "name": "cross-entropy",
            "options": {
                "weights": {"edges": (part.size - 1) / 2},
                "times": "logit-normal",
                "times_mean": -0.4,
                "times_std": 1.0,
            },
        },
        "training": {
            **training,
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.999,
            "condition_dropout": 0.2,
            "checkpoint_every": 500,
        },
        # Uniform in time puts most steps where bonds are decided; uniform log-SNR has two thirds before and after.
        "sampling": {"solver": "ddpm", "nfe": nfe, "grid": "time"},
        "metrics": _metrics(name),
    }
    return Recipe.parse(recipe, f"recipe {name!r}")


_COMMUNITY = {
    "name": "graphs",
    "options": {"size": 20, "degrees": 10, "counts": _COMMUNITY_COUNTS, "isolated": "drop"},
}
_GRAPH_METRICS = [
    "graphs/degree-mmd",
    "graphs/clustering-mmd",
    "graphs/orbit-mmd",
    "graphs/spectral-mmd",
    "graphs/unique-novel",
]


def community_small() -> Recipe:
    """Two communities by a graph transformer that is told the noise level, on a path that reaches its prior."""
    size = len(_COMMUNITY_COUNTS)
    recipe = {
        "name": "graphs/community-small",
        "help": "two communities, 12 to 20 nodes; graph transformer, nodes and edges as classes",
        "domain": _COMMUNITY,
        "dataset": "graphs/community",
        "network": {
            "name": "molecules/graph-transformer",
            "options": {"width": 48, "edge_width": 16, "blocks": 3, "heads": 4, "products": 8, "dropout": 0.1},
        },
        "path": "vp-cosine",
        "parametrization": "data",
        # Which community a node is in is told from its ten or so neighbours together, while each edge is still
        # uncertain: at σ/α about 1, higher than where the bonds of molecules are decided.
        "objective": {
            "name": "cross-entropy",
            "options": {
                "weights": {"edges": (size - 1) / 2},
                "times": "log-normal",
                "times_mean": 0.0,
                "times_std": 1.2,
            },
        },
        "training": {
            "steps": 4000,
            "batch_size": 32,
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.998,
            "checkpoint_every": 1000,
        },
        "sampling": {"solver": "ddpm", "nfe": 50, "grid": "time"},
        "metrics": _GRAPH_METRICS,
    }
    return Recipe.parse(recipe, "recipe 'graphs/community-small'")


def gdss() -> Recipe:
    """GDSS with the schedules and sampler published for community-small; smaller networks, fewer steps of training.

    The published networks have width 32 and 5 edge layers (the defaults of ``graphs/gdss``) and 5,000 epochs.
    """
    recipe = {
        "name": "graphs/gdss",
        "help": "GDSS on two communities, 12 to 20 nodes; node and edge scores on a product path",
        "domain": _COMMUNITY,
        "dataset": "graphs/community",
        "network": {"name": "graphs/gdss", "options": {"width": 16, "edge_layers": 3}},
        "path": {"name": "product", "options": {"leaves": {"nodes": "graphs/gdss-vp", "edges": "graphs/gdss-vp"}}},
        "parametrization": "noise",
        "training": {
            "steps": 700,
            "batch_size": 32,
            "learning_rate": 1e-2,
            "warmup_steps": 50,
            "schedule": "cosine",
            "weight_decay": 1e-4,
            "betas": [0.9, 0.999],
            "ema_decay": 0.995,
            "checkpoint_every": 400,
        },
        "sampling": {
            "solver": {"name": "graphs/gdss-pc", "options": {"predictor": "euler", "snr": 0.05, "scale_eps": 0.7}},
            "nfe": 200,
            "grid": "time",
            "end": "stop",
        },
        "metrics": _GRAPH_METRICS,
    }
    return Recipe.parse(recipe, "recipe 'graphs/gdss'")
