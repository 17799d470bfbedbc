"""Series, weather, graphs and generated volumes are built with the recipe's domain; what data are by nature stays."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset, takes_domain
from anydiff.registry import registry

OWN = {"timeseries/seasonal-gaussian"}
"""Data whose every size is fixed by what they are, or said by their own options."""


@pytest.mark.parametrize("name", [entry.name for entry in registry().entries("datasets")])
def test_data_sets_are_built_with_the_domain(name: str) -> None:
    assert takes_domain(name) is (name not in OWN)


CASES = [
    ("timeseries/traffic", "dataset.options={}", {"context": 48, "prediction": 12, "season": 12}),
    ("weather/gee", "dataset.options={member_labels: 1}", {"seeds": 3}),
    ("graphs/community-small", "dataset.options={train: 4, test: 4}", {"degrees": 7, "isolated": "keep"}),
    ("volumes/sadm", "dataset.options={train_size: 2}", {"frames": 4}),
    (
        "volumes/sadm",
        "dataset={name: volumes/ellipsoids, options: {train_size: 2}}",
        {"shape": [8, 16, 16], "voxel_size": 1.0, "origin": None, "frames": 4},
    ),
]


@pytest.mark.parametrize(("name", "data", "options"), CASES, ids=lambda value: str(value)[:24])
def test_what_the_domain_says_stands_once(name: str, data: str, options: dict[str, object]) -> None:
    changes = [data, *(f"domain.options.{key}={'null' if value is None else value}" for key, value in options.items())]
    domain = build_dataset(load_recipe(name, changes), "train").domain
    options = {key: value for key, value in options.items() if value is not None}
    found = {key: getattr(domain, key) for key in options}
    assert found == {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("timeseries/traffic", "domain.options.unit=cars", "unit = 'vehicles per hour', but domain"),
        ("timeseries/traffic", "domain.options.freq=2h", "freq = "),
        ("timeseries/traffic", "domain.options.context=48", "change domain.options or the data set"),
        ("weather/gee", "domain.options.climatology=era5", "change domain.options or the data set"),
        ("weather/gee", "domain.options.seeds=3", "seeds = 2, but domain"),
        ("graphs/community-small", "domain.options.size=30", "change domain.options or the data set"),
        ("volumes/brain", "domain.options.voxel_size=5", "voxel_size = 6.0, but domain"),
        ("volumes/brain", "domain.options.frames=3", "frames = 0, but domain"),
        ("volumes/sadm", "domain.options.modality=ct", "modality = 'mr', but domain"),
    ],
)
def test_what_data_are_by_nature_or_are_told_contradicts_another_domain(name: str, change: str, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        build_dataset(load_recipe(name, [change]), "train")


def test_files_of_forecasts_need_a_climatology_from_somewhere() -> None:
    with pytest.raises(AnydiffError, match="climatology is missing; name a file"):
        registry().build("datasets", "weather/files", forecast="none.nc")
    with pytest.raises(AnydiffError, match=r"'none\.nc' does not exist"):
        registry().build("datasets", "weather/files", forecast="none.nc", domain=registry().build("domains", "weather"))
