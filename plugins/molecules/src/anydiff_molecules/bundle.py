"""Makes, and reads, the parts of QM9 and ZINC250k inside this package. The command that made them::

    anydiff data get molecules/qm9 && anydiff data get molecules/zinc
    python -m anydiff_molecules.bundle

A file ``<set>.npz`` (plain arrays, no pickle) holds molecules in a fixed random order, the test split first: ``count``
[M] heavy atoms, ``atoms`` [M, N] types, ``bonds`` [M, N(N-1)/2] orders of the upper triangle row by row, and ``logp``
[M]; ``smiles`` are the canonical SMILES without stereochemistry, one text separated by line breaks, as bytes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import FileFormatError
from anydiff.files import atomic_path
from anydiff_molecules.official import all_smiles

HERE = Path(__file__).parent
SEED = 0


@dataclass(frozen=True)
class Part:
    """What of a set is bundled.

    Attributes:
        types: the vocabulary of atoms.
        size: most heavy atoms.
        train: number of training molecules.
        test: number of test molecules.
    """

    types: tuple[str, ...]
    size: int
    train: int
    test: int


PARTS = {
    "qm9": Part(("C", "N", "O", "F", "N+", "O-", "C-"), 9, 60_000, 5_000),
    "zinc": Part(("C", "N", "O", "F", "S", "Cl", "Br", "N+", "O-"), 20, 20_000, 2_000),
}


@dataclass(frozen=True)
class Table:
    """Molecules as arrays; see the module.

    Attributes:
        count: heavy atoms ``[M]``.
        atoms: types ``[M, N]``, 0 beyond ``count``.
        bonds: orders ``[M, N(N-1)/2]``.
        logp: Wildman-Crippen log P ``[M]``.
        smiles: canonical SMILES, one per molecule.
    """

    count: NDArray[np.uint8]
    atoms: NDArray[np.uint8]
    bonds: NDArray[np.uint8]
    logp: NDArray[np.float32]
    smiles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.count)

    def rows(self, rows: slice) -> Table:
        """Some of the molecules."""
        return Table(self.count[rows], self.atoms[rows], self.bonds[rows], self.logp[rows], self.smiles[rows])


def tabulate(
    molecules: Iterable[Any], types: Sequence[str], size: int, known: Iterable[str] = ()
) -> tuple[Table, Counter[str]]:
    """A table of RDKit molecules without repetitions, and how many were left out for which reason.

    Molecules whose canonical SMILES is in ``known`` count as repetitions.
    """
    from anydiff_molecules import chemistry

    count, atoms, bonds, logp, smiles = [], [], [], [], []
    seen = set(known)
    dropped: Counter[str] = Counter()
    upper = np.triu_indices(size, 1)
    for molecule in molecules:
        try:
            kinds, orders = chemistry.to_arrays(molecule, types, size)
            again = chemistry.to_molecule(kinds, orders, types)
            name = chemistry.canonical(molecule)
            if not chemistry.is_connected(molecule):
                raise chemistry.Refused("it has several fragments")
            if not chemistry.is_valid(again) or chemistry.canonical(again) != name:
                raise chemistry.Refused("its hydrogens or radicals do not follow from valences")
        except chemistry.Refused as refusal:
            dropped[refusal.reason] += 1
            continue
        if name in seen:
            dropped["it is there already (stereochemistry not counted)"] += 1
            continue
        seen.add(name)
        full = np.zeros((size, size), dtype=np.uint8)
        full[: len(kinds), : len(kinds)] = orders
        count.append(len(kinds))
        atoms.append(np.pad(kinds, (0, size - len(kinds))).astype(np.uint8))
        bonds.append(full[upper])
        logp.append(chemistry.property_of("logp", again))
        smiles.append(name)
    table = Table(
        np.array(count, dtype=np.uint8),
        np.array(atoms, dtype=np.uint8).reshape(-1, size),
        np.array(bonds, dtype=np.uint8).reshape(-1, len(upper[0])),
        np.array(logp, dtype=np.float32),
        tuple(smiles),
    )
    return table, dropped


def read_bundle(name: str, split: str) -> Table:
    """The bundled ``train`` or ``test`` molecules of a set.

    Raises:
        FileFormatError: the file is missing or damaged.
    """
    path, part = HERE / f"{name}.npz", PARTS[name]
    try:
        with np.load(path, allow_pickle=False) as file:
            text = file["smiles"].tobytes().decode()
            table = Table(file["count"], file["atoms"], file["bonds"], file["logp"], tuple(text.split("\n")))
    except (OSError, KeyError, ValueError) as error:
        raise FileFormatError(
            f"the bundled {path.name!r} cannot be read ({error}); install anydiff-molecules again."
        ) from error
    return table.rows(slice(0, part.test) if split == "test" else slice(part.test, None))


def write_bundle(name: str, smiles: Sequence[str], path: Path | None = None) -> Counter[str]:
    """Make the bundled file of a set from all its SMILES; returns what was left out and why."""
    from rdkit import Chem

    part = PARTS[name]
    order = np.random.default_rng(SEED).permutation(len(smiles))
    wanted = part.train + part.test
    table: Table | None = None
    taken = 0
    # Parsing is slow, so only as many as are needed: twice what is wanted, until there are enough.
    for share in (1.3, 3.0, 6.0, 100.0):
        taken = min(len(smiles), int(share * wanted))
        molecules = (Chem.MolFromSmiles(smiles[index]) for index in order[:taken])
        table, dropped = tabulate((each for each in molecules if each is not None), part.types, part.size)
        if len(table) >= wanted or taken == len(smiles):
            break
    assert table is not None
    table = table.rows(slice(0, wanted))
    with atomic_path(path or HERE / f"{name}.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            count=table.count,
            atoms=table.atoms,
            bonds=table.bonds,
            logp=table.logp,
            smiles=np.frombuffer("\n".join(table.smiles).encode(), dtype=np.uint8),
        )
    return dropped


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the bundled parts of QM9 and ZINC250k.")
    parser.add_argument("names", nargs="*", default=list(PARTS))
    parser.add_argument("--source", type=Path, help="a file of SMILES instead of the fetched container")
    arguments = parser.parse_args()
    for each in arguments.names:
        lines = arguments.source.read_text().split() if arguments.source else all_smiles(each)
        print(each, dict(write_bundle(each, lines)))
