"""One owner of the domain: data are built with the recipe's, and nothing needs to be given twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anydiff.domains.kit import domain_of_data
from anydiff.errors import AnydiffError
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset
from anydiff.recipes.statistics import fit_to_data
from anydiff.registry import registry
from anydiff_molecules.domain import Molecules

SMILES = ["CCO", "CCN", "CCC", "c1ccccc1", "CC(=O)O", "CCCl", "C1CCCCC1", "CNC", "COC", "CC#N", "C=C", "CO"]


@pytest.fixture
def smiles(tmp_path: Path) -> str:
    path = tmp_path / "own.smi"
    path.write_text("\n".join(SMILES) + "\n")
    return str(path)


def test_molecules_of_a_file_have_the_recipes_vocabulary_and_size(smiles: str) -> None:
    changes = ["dataset.name=molecules/file", f"dataset.options={{path: {smiles}}}"]
    options = "domain.options={types: [C, N, O, Cl], size: 6, condition: logp}"
    recipe, data = fit_to_data(load_recipe("molecules/zinc", [*changes, options]))
    assert recipe.dataset.options == {"path": smiles}, "what the domain says stands once"
    test = build_dataset(recipe, "test")
    for each in (data, test):
        assert (each.domain.types, each.domain.size) == (("C", "N", "O", "Cl"), 6)
        assert [each.domain.mean, each.domain.deviation] == recipe.domain.options["condition_scale"] != [0, 1]
        assert each.domain.counts == recipe.domain.options["counts"]
    assert len(test) == 1


def test_options_that_are_given_twice_are_compared(smiles: str) -> None:
    own = f"dataset.options={{path: {smiles}, size: 7}}"
    changes = ["dataset.name=molecules/file", own, "domain.options={types: [C, N, O, Cl], size: 6}"]
    with pytest.raises(AnydiffError, match=r"change domain\.options or the data set"):
        build_dataset(load_recipe("molecules/zinc", changes), "train")
    built = build_dataset(load_recipe("molecules/zinc", [*changes, "domain.options.size=7"]), "train")
    assert (built.domain.types, built.domain.size) == (("C", "N", "O", "Cl"), 7)  # type: ignore[attr-defined]


def test_a_bundled_table_keeps_its_own_vocabulary() -> None:
    recipe = load_recipe("molecules/zinc")
    types = list(reversed(recipe.domain.options["types"]))
    with pytest.raises(AnydiffError, match="types"):
        build_dataset(recipe.with_changes([f"domain.options.types={types}"]), "train")


def test_pictures_of_a_folder_have_the_recipes_range(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            values = np.random.default_rng(number).integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / name / f"{number}.png")
    changes = ["dataset.name=images/folder", f"dataset.options={{path: {tmp_path}}}"]
    recipe, data = fit_to_data(load_recipe("images/fashion", changes))
    wide, wider = fit_to_data(load_recipe("images/fashion", [*changes, "domain.options.range=[0, 1]"]))
    assert recipe.domain.options["classes"] == wide.domain.options["classes"] == ["cat", "dog"]
    assert data.batch([0])[0].min() < 0 <= wider.batch([0])[0].min()
    assert data.hash != wider.hash != build_dataset(wide, "test").hash


def test_a_data_set_without_a_recipe_makes_its_own(smiles: str) -> None:
    domain = registry().build("datasets", "molecules/file", path=smiles).domain
    assert (len(domain.types), domain.size, domain.condition) == (9, 20, None)


def test_episodes_take_the_domain_as_it_is() -> None:
    recipe = load_recipe("trajectories/maze")
    options = {**recipe.dataset.options, "episodes": 20}
    del options["domain"]
    once = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"options": options})})
    twice = recipe.with_changes(["dataset.options.episodes=20"])
    assert build_dataset(once, "test").hash == build_dataset(twice, "test").hash


def test_what_is_no_domain_is_refused() -> None:
    with pytest.raises(AnydiffError, match="domain is 'molecules', but must be a domain; leave it out"):
        domain_of_data(Molecules, "molecules")  # type: ignore[arg-type]
    given = Molecules(["C", "N"], 5, [0, 1, 1, 1, 1], "logp", (1.0, 2.0))
    assert domain_of_data(Molecules, given, size=None) is given
    other = domain_of_data(Molecules, given, size=6, counts=None)
    assert (other.types, other.size, other.condition, other.deviation) == (("C", "N"), 6, "logp", 2.0)
