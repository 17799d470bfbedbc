"""The molecule domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from importlib.util import find_spec

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"
ANYDIFF_CHECK_OPTIONS = {
    "molecules/cooled-ancestral": {"noise_scale": 1.0},  # with less noise it is another law on purpose
    "molecules/graph-transformer": {"width": 32, "edge_width": 8, "blocks": 1, "heads": 2},
}


@hookimpl
def register_domains(register: Register) -> None:
    """Molecules as graphs of heavy atoms."""
    register(
        "molecules",
        "molecules as graphs of heavy atoms, RDKit objects",
        "anydiff_molecules.domain:Molecules",
        beside_codec=["counts"],  # how many atoms samples have, not what a state means
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """QM9, ZINC250k and a user's own file."""
    register(
        "molecules/qm9",
        "QM9, up to 9 heavy atoms; 60,000 + 5,000 molecules bundled, all by path or container",
        "anydiff_molecules.data:QM9",
        ledger="anydiff_molecules.ledger:QM9",
    )
    register(
        "molecules/zinc",
        "ZINC250k up to 20 heavy atoms; 20,000 + 2,000 molecules bundled, all by path or container",
        "anydiff_molecules.data:ZINC",
        ledger="anydiff_molecules.ledger:ZINC",
    )
    register("molecules/file", "your own SMILES, CSV or SDF file", "anydiff_molecules.data:MoleculeFile")


@hookimpl
def register_networks(register: Register) -> None:
    """The graph transformer, for graphs and molecules."""
    register(
        "molecules/graph-transformer",
        "permutation-equivariant transformer over nodes and edges, class probabilities",
        "anydiff_molecules.networks:GraphTransformer",
        equivariant="nodes",
    )


@hookimpl
def register_solvers(register: Register) -> None:
    """Ancestral sampling with less noise."""
    register(
        "molecules/cooled-ancestral",
        "DDPM with a factor on its noise",
        "anydiff_molecules.cooled:CooledAncestral",
        order=1,
        kind="ancestral",
        calls_per_step=1,
        stochastic=True,
        source="after Ho et al. 2020",
    )


@hookimpl
def register_recipes(register: Register) -> None:
    """QM9 and ZINC250k."""
    register(
        "molecules/qm9",
        "QM9, up to 9 heavy atoms, log P as condition",
        "anydiff_molecules.recipes:qm9",
        weights="anydiff_molecules:weights/qm9.safetensors",
        quick=True,
    )
    register(
        "molecules/zinc",
        "ZINC250k up to 20 heavy atoms, log P as condition",
        "anydiff_molecules.recipes:zinc",
        weights="anydiff_molecules:weights/zinc.safetensors",
    )


@hookimpl
def register_tasks(register: Register) -> None:
    """Small molecules, and larger ones."""
    register("molecules/qm9@2", "200 molecules of up to 9 heavy atoms", "anydiff_molecules.tasks:qm9")
    register("molecules/zinc@2", "200 drug-like molecules of up to 20 heavy atoms", "anydiff_molecules.tasks:zinc")


@hookimpl
def register_metrics(register: Register) -> None:
    """Validity, uniqueness, novelty, distributions."""
    metrics = "anydiff_molecules.metrics"
    register("molecules/validity", "share that passes full sanitisation, nothing corrected", f"{metrics}:Validity")
    register("molecules/valency", "share with valid valences (GDSS's definition)", f"{metrics}:Valency")
    register("molecules/validity-corrected", "share valid after correction", f"{metrics}:Corrected")
    register("molecules/connected", "share valid and of one fragment", f"{metrics}:Connected")
    register("molecules/uniqueness", "distinct among the valid", f"{metrics}:Uniqueness")
    register("molecules/novelty", "not in training among the distinct", f"{metrics}:Novelty")
    register("molecules/vun", "valid, unique and novel among all", f"{metrics}:ValidUniqueNovel")
    register("molecules/logp", "Wasserstein distance of log P", f"{metrics}:LogP")
    register("molecules/qed", "Wasserstein distance of QED", f"{metrics}:DrugLikeness")
    register("molecules/weight", "Wasserstein distance of molecular weight", f"{metrics}:Weight")
    register("molecules/nspdk-mmd", "MMD of pairs of neighbourhoods (NSPDK)", f"{metrics}:NSPDKMMD")
    register("molecules/fragment-mmd", "MMD of atom environments up to two bonds wide", f"{metrics}:FragmentMMD")
    if find_spec("fcd_torch") is not None:
        register("molecules/fcd", "Fréchet ChemNet distance", f"{metrics}:FCD")
