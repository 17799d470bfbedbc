"""The bundled weights: of the recipes as they stand, small, and with their command."""

from pathlib import Path

import pytest

from anydiff.recipes import load_recipe
from anydiff.training import load_weights
from anydiff_pose import recipes

WEIGHTS = Path(recipes.__file__).with_name("weights")


@pytest.mark.parametrize("name", ["diffpose", "regression"])
def test_weights_are_those_of_the_recipe(name):
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size <= 4 * 2**20
    assert load_weights(path)[1]["recipe"] == load_recipe(f"pose/{name}").canonical()
    assert f"anydiff train pose/{name} " in (WEIGHTS / "README.md").read_text(encoding="utf-8")
