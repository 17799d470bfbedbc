"""A domain with a scaffold in one file outside the core: samples have what was asked for, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anydiff.errors import AnydiffError
from anydiff.pipeline import Pipeline, train
from anydiff.plugins import forget, use_folder
from anydiff.recipes import load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pipeline]:
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "scaffold_domain")
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
    use_folder(EXAMPLES)
    forget()
    recipe = load_recipe("scaffold_domain/small", ["training.steps=4", "training.batch_size=16"])
    yield train(recipe, tmp_path / "run")
    monkeypatch.undo()
    forget()


def test_samples_have_the_entries_of_the_scaffold(pipeline: Pipeline) -> None:
    known, mask = pipeline.domain.parse_known("0=0, 7=-1.5")
    samples = np.stack(pipeline.sample(3, nfe=4, known=known, known_mask=mask))
    assert np.array_equal(samples[:, [0, 7]], [[0.0, -1.5]] * 3)
    assert samples[:, 1:7].std(axis=0).min() > 0, "what is not fixed is drawn"
    with pytest.raises(AnydiffError, match="the scaffold '8=1' is not of the form"):
        pipeline.domain.parse_known("8=1")
