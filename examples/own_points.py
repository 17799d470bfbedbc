"""Your own NumPy arrays as a data set of a domain that exists (here two_moons), with a recipe to train on them.

Try `anydiff --plugins-dir examples train own_points/small`.
"""

import numpy as np

from anydiff import hookimpl
from anydiff.data import ArrayDataset
from anydiff.recipes import load_recipe
from anydiff.registry import registry


@hookimpl
def register_datasets(register):
    register("own_points", "points from NumPy arrays", "own_points:OwnPoints")


@hookimpl
def register_recipes(register):
    register("own_points/small", "two moons' recipe on these points", "own_points:small")


class OwnPoints(ArrayDataset):
    name = "own_points"

    def __init__(self, split="train"):
        points = np.random.default_rng(5).normal(size=(1000, 2)) * [0.5, 0.2]  # or np.load("points.npy")
        keep = (np.arange(len(points)) % 5 == 0) == (split == "test")
        super().__init__(points[keep], {"label": points[keep, 0] > 0})

    @property
    def domain(self):
        return registry().build("domains", "two_moons")


def small():
    recipe = load_recipe("two_moons/small").model_dump(mode="json")
    return {**recipe, "name": "own_points/small", "dataset": "own_points", "sigma_data": 0.4}
