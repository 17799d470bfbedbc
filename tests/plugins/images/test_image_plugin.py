"""What the images plugin registers, and that looking at it is cheap."""

import subprocess
import sys

import pytest

from anydiff.cli.main import run
from anydiff.recipes import load_recipe
from anydiff.registry import KINDS, registry


def test_everything_registered_loads():
    entries = [entry for kind in KINDS for entry in registry().entries(kind) if entry.plugin == "images"]
    names = {(entry.kind, entry.name) for entry in entries}
    assert {("domains", "images"), ("datasets", "images/fashion-mnist"), ("recipes", "images/fashion")} <= names
    for entry in entries:
        assert callable(entry.load()), entry


@pytest.mark.parametrize("name", ["images/fashion", "images/cifar10"])
def test_recipes_are_complete(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    domain = registry().build("domains", recipe.domain.name, **recipe.domain.options)
    assert len(domain.classes) == 10
    registry().build(
        "networks", recipe.network.name, spec=domain.spec, conditions=domain.conditions, **recipe.network.options
    )
    for part in (recipe.path, recipe.objective, recipe.sampling.solver):
        assert part.name


def test_a_recipe_is_printed_as_the_file_that_trains_it(tmp_path, capfd):
    mine = tmp_path / "mine.yaml"
    assert run(["recipes", "show", "images/fashion", "--set", "training.steps=5"]) == 0
    mine.write_text(capfd.readouterr().out)
    assert load_recipe(mine) == load_recipe("images/fashion", ["training.steps=5"])
    assert run(["recipes", "show", "images/fahsion"]) == 2
    assert "did you mean 'images/fashion'?" in capfd.readouterr().err


def test_importing_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, anydiff_images, anydiff_images.ledger\n"
        "print({'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
