"""Methods that edit, on two Gaussians: samples come to the other one, rows are rows, the same side changes nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.editing import EditMethod, Side, Travel
from anydiff.paths import VPCosine
from anydiff.registry import Entry
from anydiff.states import Conditioning
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

CENTRES = torch.tensor([[-1.0, 0.5], [1.0, 0.5]], dtype=torch.float64)
STD, COUNT, CALLS = 0.2, 32, 30


def _method(plugin: Subject, entry: Entry) -> EditMethod:
    made: EditMethod = plugin.build(entry)
    right = isinstance(made, EditMethod)
    require(right, f"it builds a {type(made).__name__}, which is no anydiff.editing.EditMethod.")
    return made


def _samples() -> Tensor:
    """Samples of the first Gaussian."""
    noise = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return CENTRES[0] + STD * noise


def _side(label: int, count: int = COUNT) -> Side:
    oracle = GaussianMixtureOracle(VPCosine(), CENTRES, STD)
    return Side(oracle, Conditioning({"label": torch.full((count,), label)}))


def _edited(method: EditMethod, clean: Tensor, target: int, **options: Any) -> Tensor:
    sides = [_side(label, len(clean)) for label in (0, target)]
    found = method.edit(clean, (2,), *sides, **{"travel": Travel(nfe=CALLS), **options})
    require(found.shape == clean.shape, f"{tuple(clean.shape)} samples come as {tuple(found.shape)}.")
    require(found.isfinite().all(), "an edited sample is not finite.")
    return found


@check("edit.moves", "edits")
def moves(plugin: Subject, entry: Entry) -> None:
    """Samples of one Gaussian become samples of the other: their mean is there, and they are as wide at most."""
    found = _edited(_method(plugin, entry), _samples(), 1)
    off = float((found.mean(0) - CENTRES[1]).abs().max())
    require(off < 0.5, f"edits are {off:.2g} off the mean of the target on average, which is 2 from the source.")
    spread = float(found.std(0).max())
    require(spread < 2 * STD, f"edits have a deviation of {spread:.2g}, but the target's is {STD:g}.")


@check("edit.exact", "edits", optional=True)
def exact(plugin: Subject, entry: Entry) -> None:
    """A method that registers exact=True gives the samples back where both sides are the same."""
    if not entry.metadata.get("exact"):
        skip("it does not register exact=True, so it does not promise to give samples back.")
    clean = _samples()
    off = float((_edited(_method(plugin, entry), clean, 0) - clean).abs().max())
    require(off < 1e-3, f"the same condition on both sides moves a sample by {off:.2g}.")


@check("edit.rows", "edits")
def rows(plugin: Subject, entry: Entry) -> None:
    """Row b depends on its own sample alone, and on no chunk."""
    method, clean = _method(plugin, entry), _samples()[:6]
    together = _edited(method, clean, 1)
    cut = _edited(method, clean, 1, batch_size=4)
    require(_close(together, cut), "an edit depends on the chunk it is made in.")
    other = clean.clone()
    other[1] += 0.3
    same = _close(_edited(method, other, 1)[[0, 2, 3]], together[[0, 2, 3]])
    require(same, "an edit depends on another sample.")


def _close(first: Tensor, second: Tensor) -> bool:
    """Within the tolerance of an adaptive step, which a chunk shares."""
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3)
