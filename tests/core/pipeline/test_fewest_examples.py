"""A loss of several examples together refuses batches and data that are too small, before anything is written."""

from __future__ import annotations

import pytest

from anydiff.cli.app import run_application
from anydiff.distillation import MMD
from anydiff.errors import AnydiffError
from anydiff.objectives import Sum
from anydiff.objectives.terms import Weighted
from anydiff.pipeline.start import check_rows


def test_a_discrepancy_of_one_example_is_refused_before_the_run_begins(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", "two_moons/small", "--set", "training.batch_size=1"]
    words += ["--set", "objective={name: mmd, options: {nfe: 2}}", "--out", str(out)]
    assert run_application([*words, "--set", "sampling={solver: ddim, nfe: 2, fixed: true}"]) == 2
    assert "training.batch_size is 1, but the loss is one of at least 2 examples" in capsys.readouterr().err
    assert not out.exists()


def test_terms_need_what_the_neediest_of_them_does():
    from anydiff.objectives import DenoisingObjective
    from anydiff.registry import registry

    plain = registry().build("objectives", "denoising")
    assert isinstance(plain, DenoisingObjective)
    assert plain.fewest_rows == 1
    both = Sum({"denoising": Weighted(plain, 1.0), "mmd": Weighted(MMD(nfe=1), 1.0)})
    assert both.fewest_rows == 2
    check_rows(both, 2, "points", 2)
    with pytest.raises(AnydiffError, match="the data set 'points' has 1 examples"):
        check_rows(both, 4, "points", 1)
