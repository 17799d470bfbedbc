"""Grids of small node-link pictures, with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import networkx as nx
from PIL import Image, ImageDraw

from anydiff.files import atomic_path

SIDE, MARGIN, OVERSAMPLING = 180, 16, 3
INK, NODE, PAPER = (90, 100, 115), (36, 100, 170), (255, 255, 255)


def draw_grid(graphs: Sequence[nx.Graph], path: Path, titles: Sequence[str] | None = None) -> None:
    """Write one PNG; each graph is laid out by springs from a fixed seed, so the same graph looks the same."""
    columns = max(1, min(8, round(len(graphs) ** 0.5 * 1.3)))
    rows = -(-max(len(graphs), 1) // columns)
    foot = 18 if titles else 0
    scale = OVERSAMPLING
    sheet = Image.new("RGB", (columns * SIDE * scale, rows * (SIDE + foot) * scale), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, graph in enumerate(graphs):
        left, top = index % columns * SIDE * scale, index // columns * (SIDE + foot) * scale
        places = nx.spring_layout(graph, seed=0) if graph.number_of_nodes() else {}
        spot = {node: (left + _to(x) * scale, top + _to(y) * scale) for node, (x, y) in places.items()}
        for i, j in graph.edges():
            pen.line([spot[i], spot[j]], fill=INK, width=scale)
        radius = (4 if graph.number_of_nodes() <= 40 else 2) * scale
        for x, y in spot.values():
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=NODE)
        if titles:
            pen.text((left + SIDE * scale / 2, top + SIDE * scale), titles[index], fill=(0, 0, 0), anchor="ma")
    small = sheet.resize((sheet.width // scale, sheet.height // scale), Image.Resampling.LANCZOS)
    with atomic_path(path) as temporary:
        small.save(temporary, format="png")


def _to(coordinate: float) -> float:
    """A spring coordinate in [-1, 1] as pixels."""
    return MARGIN + (float(coordinate) + 1) / 2 * (SIDE - 2 * MARGIN)
