"""Features of the neighbourhood subgraph pairwise distance kernel, NSPDK (Costa & De Grave, ICML 2010).

Every pair of nodes u, v at distance d <= 4 is a feature for each radius r <= 4: the balls of radius r around both, told
apart by an invariant. As in the authors' program EDeN, which GDSS is evaluated with,

- the invariant of a ball is the sequence of its shells: the sorted labels of nodes at distance 0, 1, ..., r from its
  root, each with the node's degree in the whole graph, and the labels of the edges between (an edge belongs to the
  shell of its nearer end);
- a ball that does not reach r gives no feature;
- beside the pair, each ordered pair (u, v) counts a half feature, the ball around v alone: what is found at that
  distance from any node;
- counts are normalised for each (r, d), pairs and halves together, then as a whole, so a graph's kernel with itself
  is 1.

What differs from EDeN: features are kept by their name and not by a hash of 16 bits, so there are no collisions, and
the numbers of two processes are the same (Python randomises the hashes that EDeN takes).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

COMPLEXITY = 4
"""The largest radius and the largest distance, the setting of GDSS's evaluation."""

Feature = tuple[int, int, str, str]
"""(radius, distance, the lesser ball, the greater ball); of a half feature no ball and the one around the far node."""


def features(
    labels: Sequence[str], edges: Mapping[tuple[int, int], str], distance: NDArray[np.int64], most: int = COMPLEXITY
) -> dict[Feature, float]:
    """The normalised counts of a graph.

    Args:
        labels: of the nodes.
        edges: (i, j) -> label, each once.
        distance: between all nodes ``[N, N]``, counted in edges; anything larger than ``most`` where there is no path.
        most: largest radius and largest distance.
    """
    degrees = Counter(end for pair in edges for end in pair)
    known = [f"{label}{degrees[node]}" for node, label in enumerate(labels)]
    balls = [_balls(root, known, edges, distance, most) for root in range(len(labels))]
    counts: defaultdict[tuple[int, int], Counter[Feature]] = defaultdict(Counter)
    for u, v in zip(*(ends.tolist() for ends in np.nonzero(distance <= most)), strict=True):
        apart = int(distance[u, v])
        for radius, (one, other) in enumerate(zip(balls[u], balls[v], strict=False)):
            pair = (one, other) if one <= other else (other, one)
            group = counts[radius, apart]
            group[(radius, apart, *pair)] += 1
            group[radius, apart, "", other] += 1
    share = 1 / math.sqrt(len(counts))
    out: dict[Feature, float] = {}
    for group in counts.values():
        norm = math.sqrt(sum(count**2 for count in group.values()))
        out.update({feature: share * count / norm for feature, count in group.items()})
    return out


def _balls(
    root: int, labels: Sequence[str], edges: Mapping[tuple[int, int], str], distance: NDArray[np.int64], most: int
) -> list[str]:
    """The invariants of the balls of radius 0, 1, ... around a node, as far as they reach."""
    near = distance[root].tolist()
    nodes: defaultdict[int, list[str]] = defaultdict(list)
    bonds: defaultdict[int, list[str]] = defaultdict(list)
    for label, shell in zip(labels, near, strict=True):
        nodes[shell].append(label)
    for (i, j), label in edges.items():
        bonds[min(near[i], near[j])].append(label)
    name, out = "", []
    for radius in range(min(most, max((shell for shell in nodes if shell <= most), default=0)) + 1):
        name += f"{','.join(sorted(bonds[radius - 1]))}|" if radius else ""
        name += f"{','.join(sorted(nodes[radius]))}|"
        out.append(name)
    return out


def molecule_features(molecule: Any) -> dict[Feature, float]:
    """Those of a valid molecule: nodes by element, edges by whole bond order, 1 for aromatic ones, as in GDSS."""
    copy = Chem.Mol(molecule)
    Chem.SanitizeMol(copy)
    labels = [atom.GetSymbol() for atom in copy.GetAtoms()]
    edges = {
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()): str(int(bond.GetBondTypeAsDouble())) for bond in copy.GetBonds()
    }
    return features(labels, edges, Chem.GetDistanceMatrix(copy).astype(np.int64))


def kernel(first: Mapping[Feature, float], second: Mapping[Feature, float]) -> float:
    """The kernel of two graphs, or of two means of graphs, from their features."""
    return sum(value * second[feature] for feature, value in first.items() if feature in second)


def mean(graphs: Iterable[Mapping[Feature, float]]) -> dict[Feature, float]:
    """The mean of the graphs' features; there must be a graph."""
    total: defaultdict[Feature, float] = defaultdict(float)
    count = 0
    for each in graphs:
        count += 1
        for feature, value in each.items():
            total[feature] += value
    return {feature: value / count for feature, value in total.items()}
