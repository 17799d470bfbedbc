"""Grids of small node-link pictures, with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import networkx as nx
from PIL import Image, ImageDraw

from anydiff.domains.kit.pictures import picture_grid, write_picture

SIDE, MARGIN, OVERSAMPLING = 180, 16, 3
INK, NODE, PAPER = (90, 100, 115), (36, 100, 170), (255, 255, 255)


def draw_grid(graphs: Sequence[nx.Graph], path: Path, titles: Sequence[str] | None = None) -> None:
    """Write one PNG; each graph is laid out by springs from a fixed seed, so the same graph looks the same.

    Raises:
        AnydiffError: there is no graph.
    """
    columns = max(1, min(8, round(len(graphs) ** 0.5 * 1.3)))
    write_picture(picture_grid([_picture(graph) for graph in graphs], titles, columns, gap=0), path)


def _picture(graph: nx.Graph) -> Image.Image:
    scale = OVERSAMPLING
    sheet = Image.new("RGB", (SIDE * scale, SIDE * scale), PAPER)
    pen = ImageDraw.Draw(sheet)
    places = nx.spring_layout(graph, seed=0) if graph.number_of_nodes() else {}
    spot = {node: (_to(x) * scale, _to(y) * scale) for node, (x, y) in places.items()}
    for i, j in graph.edges():
        pen.line([spot[i], spot[j]], fill=INK, width=scale)
    radius = (4 if graph.number_of_nodes() <= 40 else 2) * scale
    for x, y in spot.values():
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=NODE)
    return sheet.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _to(coordinate: float) -> float:
    """A spring coordinate in [-1, 1] as pixels."""
    return MARGIN + (float(coordinate) + 1) / 2 * (SIDE - 2 * MARGIN)
