"""Recipes: every key matters or is refused; the resolved configuration is what is stored and hashed."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.recipes import Recipe, load_recipe


def test_yaml_round_trip_keeps_the_hash(recipe, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    again = load_recipe(file)
    assert again == recipe
    assert again.hash == recipe.hash


def leaves(data, prefix=()):
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


CHANGED = {
    "name": "other", "help": "x", "parametrization": "data", "sigma_data": 0.9, "grid": "time", "end": "stop",
    "schedule": "constant", "precision": "bf16-mixed", "micro_batch_size": 8, "gradient_clip": None,
    "betas": [0.8, 0.9], "weighting": "uniform", "metrics": [], "guidance": ["clamp"], "options": {"eta": 0.5},
    "latent": "other", "optimiser": "sgd", "start": "other", "companions": {"teacher": "other"}, "fixed": True,
    "read_out": "heads", "refines": "other",
}  # fmt: skip


def test_every_key_changes_the_hash(recipe):
    data = recipe.model_dump(mode="json")
    seen = 0
    for path, value in leaves(data):
        changed = recipe.model_dump(mode="json")
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = CHANGED.get(
            path[-1], value * 0.5 + 0.01 if isinstance(value, float) else 7 if value != 7 else 8
        )
        if path[-1] == "latent_scale":  # of an autoencoder's latents alone
            inner["latent"] = "another"
            unscaled = Recipe.parse(changed | {"latent_scale": None}, "test")
            assert Recipe.parse(changed, "test").hash != unscaled.hash
        if path[-1] == "name" and len(path) > 1:
            inner[path[-1]] = "another"
        assert Recipe.parse(changed, "test").hash != recipe.hash, path
        seen += 1
    assert seen > 25


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("training.stepz=3", "did you mean 'steps'"),
        ("trainin.steps=3", "did you mean 'training'"),
        ("training.steps=many", "steps"),
        ("training.steps=-1", "steps"),
        ("sampling.nfe=0", "nfe"),
        ("sigma_data=-1", "sigma_data"),
        ("parametrization=epsilon", "parametrization"),
        ("training.steps", "no '='"),
        ("name.first=x", "name"),
    ],
)
def test_a_wrong_change_names_key_and_fix(recipe, change, expected):
    with pytest.raises(AnydiffError) as error:
        recipe.with_changes([change])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_recipe_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'two_moons/small'"):
        load_recipe("two_moons/smal")


def test_a_file_that_is_no_recipe(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1, 2")
    with pytest.raises(FileFormatError, match="not YAML"):
        load_recipe(bad)
    bad.write_text("- just\n- a list\n")
    with pytest.raises(AnydiffError):
        load_recipe(bad)
    with pytest.raises(AnydiffError, match="cannot read"):
        load_recipe(tmp_path / "missing.yaml")


def test_unknown_option_of_a_part_suggests(recipe, tmp_path):
    from anydiff.recipes.build import build_denoiser

    with pytest.raises(UnknownNameError, match="did you mean 'width'"):
        build_denoiser(recipe.with_changes(["network.options.widht=3"]))


def test_hostile_recipe_files_and_changes_are_one_sentence(recipe, tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    hostile = {"bomb": "\n".join(lines), "deep": "[" * 3000, "twice": "name: a\nname: b", "torn": "name: ["}
    for name, text in hostile.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        with pytest.raises(FileFormatError, match=rf"{name}\.yaml' "):
            load_recipe(file)
    with pytest.raises(FileFormatError, match=r"the change 'training\.steps=\[1' is not YAML"):
        recipe.with_changes(["training.steps=[1"])
