"""Your own NumPy arrays as a data set of a domain that exists (here two_moons), with a recipe to train on them.

Try `anydiff --plugins-dir examples train own_points/small`.
"""

import numpy as np
import torch

from anydiff import hookimpl
from anydiff.pipeline import Dataset, load_recipe


@hookimpl
def register_datasets(register):
    register("own_points", "points from NumPy arrays", "own_points:OwnPoints")


@hookimpl
def register_recipes(register):
    register("own_points/small", "two moons' recipe on these points", "own_points:small")


class OwnPoints(Dataset):
    name = "own_points"

    def __init__(self, split="train"):
        points = np.random.default_rng(5).normal(size=(1000, 2)) * [0.5, 0.2]  # or np.load("points.npy")
        labels = (points[:, 0] > 0).astype(np.int64)
        keep = np.arange(len(points)) % 5 == 0 if split == "test" else np.arange(len(points)) % 5 != 0
        self.points, self.labels = torch.tensor(points[keep], dtype=torch.float32), torch.tensor(labels[keep])

    @property
    def domain(self):
        from two_moons import Points

        return Points()

    def __len__(self):
        return len(self.points)

    def batch(self, indices):
        return self.points[list(indices)], {"label": self.labels[list(indices)]}


def small():
    recipe = load_recipe("two_moons/small").model_dump(mode="json")
    return {**recipe, "name": "own_points/small", "dataset": "own_points", "sigma_data": 0.4}
