"""Known entries of states whose nodes may be absent, known entries from a text, data of another codec."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from anydiff.cli.main import run as command
from anydiff.errors import AnydiffError
from anydiff.pipeline.conditions import with_known_nodes
from anydiff.recipes.build import build_dataset, build_domain
from anydiff.states import Known, Leaf, StateSpec


def test_a_known_node_exists():
    """Where a known entry is not zero; known zeros and unknown values say nothing. A caller's own mask must agree."""
    spec = StateSpec([Leaf("nodes", (4, 2), mask_axes=(0,))])
    domain = SimpleNamespace(spec=spec)
    known = torch.zeros(2, 4, 2)
    known[:, 1, 0], known[0, 3, 1] = 1.0, float("nan")
    fixed = torch.ones(2, 4, 2, dtype=torch.bool)
    fixed[0, 3] = False
    given = Known(spec.pack({"nodes": known}), spec.pack({"nodes": fixed}))
    mask = torch.tensor([[True, False, False, False], [True, True, True, False]])
    wanted = [[True, True, False, False], [True, True, True, False]]
    assert with_known_nodes(domain, mask, given, sized=False).tolist() == wanted
    with pytest.raises(AnydiffError, match="entries of node 1 of sample 0, but the mask leaves that node out"):
        with_known_nodes(domain, mask, given, sized=True)
    assert with_known_nodes(domain, torch.tensor(wanted), given, sized=True).tolist() == wanted


def test_data_that_mean_something_else_are_refused(recipe, monkeypatch):
    domain = type(build_domain(recipe))
    made = iter(({"unit": "mm"}, {"unit": "inch"}, {"unit": "mm"}, {"unit": "mm"}))
    monkeypatch.setattr(domain, "codec", property(lambda self: next(made)))
    with pytest.raises(AnydiffError, match=r"has unit = 'mm', but domain .* says 'inch'; give both the same"):
        build_dataset(recipe, "train")
    assert len(build_dataset(recipe, "train"))


def test_a_domain_without_known_entries_says_so(run, tmp_path, capsys):
    out = str(tmp_path / "out.csv")
    assert command(["sample", str(run), "--known", "left", "--out", out]) == 2
    assert "takes no known entries as a text; in Python give known=" in capsys.readouterr().err
    assert command(["sample", str(run), "--known", "left", "--out", f"{out}.zarr"]) == 2
    assert "--known does not go with samples that are streamed" in capsys.readouterr().err
