"""Your own molecules as a data set of the domain ``molecules``, and a recipe that trains on them.

anydiff --plugins-dir examples train molecules_own_list/small --out runs/own
anydiff sample runs/own --count 20 --out drawn.smi --picture drawn.png
"""

from itertools import product

from anydiff import hookimpl

HEADS, CHAINS, TAILS = ["O", "N", "FC", "OC"], ["", "C", "CC", "C(C)"], ["C", "C=O", "C#N", "C1CC1", "CO"]
SMILES = [head + chain + tail for head, chain, tail in product(HEADS, CHAINS, TAILS)]
COUNTS = [0.0, 0.03175, 0.14286, 0.22222, 0.30159, 0.2381, 0.06349]  # shares of 1 to 7 atoms: a training fits them
DOMAIN = {"types": ["C", "N", "O", "F"], "size": 7, "counts": COUNTS}


def own(split="train"):
    """The list above; every tenth molecule is held out."""
    from rdkit import Chem

    from anydiff_molecules.bundle import tabulate
    from anydiff_molecules.data import MoleculeSet
    from anydiff_molecules.domain import Molecules

    chosen = [text for index, text in enumerate(dict.fromkeys(SMILES)) if (index % 10 == 9) == (split == "test")]
    held_out = {Chem.CanonSmiles(text) for index, text in enumerate(dict.fromkeys(SMILES)) if index % 10 == 9}
    if split == "train":
        chosen = [text for text in chosen if Chem.CanonSmiles(text) not in held_out]
    table, dropped = tabulate(map(Chem.MolFromSmiles, chosen), DOMAIN["types"], DOMAIN["size"])
    if split == "train" and dropped:
        print(f"left out: {dict(dropped)}")
    return MoleculeSet("molecules_own_list/list", table, Molecules(**DOMAIN))


def small():
    """A small graph transformer; minutes on a laptop."""
    from anydiff.recipes import Recipe

    recipe = {
        "name": "molecules_own_list/small",
        "domain": {"name": "molecules", "options": DOMAIN},
        "dataset": "molecules_own_list/list",
        "network": {"name": "molecules/graph-transformer", "options": {"width": 32, "edge_width": 16, "blocks": 2}},
        "path": "vp-cosine",
        "parametrization": "data",
        "objective": "cross-entropy",
        "training": {"steps": 1000, "batch_size": 32},
        "sampling": {"solver": "ddpm", "nfe": 25},
    }
    return Recipe.parse(recipe, "recipe 'molecules_own_list/small'")


@hookimpl
def register_datasets(register):
    register("molecules_own_list/list", "molecules from a list of SMILES", "molecules_own_list:own")


@hookimpl
def register_recipes(register):
    register("molecules_own_list/small", "a small model of them", "molecules_own_list:small")
