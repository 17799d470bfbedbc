"""Paths of eight heights with a scaffold: `--known "0=0, 7=1"` samples paths that pass through these places."""

import numpy as np
import torch
from matplotlib.figure import Figure

from anydiff import hookimpl
from anydiff.data import ArrayDataset
from anydiff.domains import Domain
from anydiff.domains.kit import SPLITS, check_split, domain_of_data
from anydiff.errors import AnydiffError
from anydiff.files import check_suffix, write_atomic
from anydiff.states import StateSpec


class Walks(Domain):
    name, suffixes, spec = "scaffold_domain", (".csv",), StateSpec.single((8,), name="heights")

    def encode(self, objects):
        return torch.as_tensor(np.asarray(objects), dtype=torch.float32)

    def decode(self, states, condition=None):
        return list(states.double().numpy())

    def read(self, path):
        return list(np.loadtxt(path, delimiter=",", ndmin=2))

    def write(self, objects, path):
        check_suffix(path, self.suffixes, "a file of paths")
        write_atomic(path, "".join(",".join(map(repr, row)) + "\n" for row in np.asarray(objects).tolist()))

    def draw(self, objects, path, titles=None):
        lines = Figure(figsize=(4, 3)).gca().plot(np.asarray(objects).T)
        lines[0].figure.savefig(path, format="png")

    def parse_known(self, text):
        known, mask = torch.zeros(8), torch.zeros(8, dtype=torch.bool)
        for place, _, height in (part.strip().partition("=") for part in text.split(",")):
            if not (place.isdigit() and int(place) < 8 and height.lstrip("-").replace(".", "", 1).isdigit()):
                raise AnydiffError(f"the scaffold {text!r} is not of the form PLACE=HEIGHT, ... with places 0 to 7.")
            known[int(place)], mask[int(place)] = float(height), True
        return known, mask


class RandomWalks(ArrayDataset):
    name, domain = "scaffold_domain/walks", None  # its own per data set

    def __init__(self, split="train", count=1000, domain=None):
        check_split(split)
        self.domain = domain_of_data(Walks, domain)
        super().__init__(np.random.default_rng(SPLITS.index(split)).normal(0, 0.4, (count, 8)).cumsum(axis=1))


PARTS = {"name": "scaffold_domain/small", "domain": "scaffold_domain", "dataset": "scaffold_domain/walks"}
MODEL = {"network": {"name": "mlp", "options": {"width": 64, "blocks": 2}}, "parametrization": "edm", "sigma_data": 0.8}
SMALL = {**PARTS, **MODEL, "training": {"steps": 500, "batch_size": 128}}
register_domains = hookimpl(lambda register: register("scaffold_domain", "paths", "scaffold_domain:Walks"))
register_datasets = hookimpl(lambda register: register("scaffold_domain/walks", "walks", "scaffold_domain:RandomWalks"))
register_recipes = hookimpl(lambda register: register("scaffold_domain/small", "in seconds", "scaffold_domain:SMALL"))
