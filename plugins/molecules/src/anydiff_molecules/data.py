"""Molecule data sets: QM9 and ZINC250k (parts bundled, all by container), and a user's own file of molecules."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Gaussian, Split, check_split, content_hash, domain_of_data, every_tenth
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.states import Conditioning
from anydiff_molecules.bundle import PARTS, Table, read_bundle, tabulate
from anydiff_molecules.domain import Molecules
from anydiff_molecules.official import all_smiles
from anydiff_molecules.sizes import histogram

FILE_TYPES = ("C", "N", "O", "F", "S", "Cl", "Br", "N+", "O-")
"""Atoms of a user's own file where no domain says which."""


class MoleculeSet(Dataset):
    """A table of molecules in memory, packed into states per batch.

    Args:
        name: the registered name.
        table: the molecules.
        domain: their codec.
    """

    def __init__(self, name: str, table: Table, domain: Molecules) -> None:
        self.name = name
        self.table = table
        self._domain = domain
        self._count = torch.from_numpy(table.count.astype(np.int64))
        self._atoms = torch.from_numpy(table.atoms)
        self._bonds = torch.from_numpy(table.bonds)
        self._logp = torch.from_numpy(table.logp)
        self._upper = np.triu_indices(domain.size, 1)
        self._hash = _content_hash(table, domain)

    @property
    def hash(self) -> str:
        """sha256 of sizes, types, orders, log P, vocabulary and the property's scale."""
        return self._hash

    @property
    def domain(self) -> Molecules:
        """The codec of these molecules."""
        return self._domain

    @property
    def statistics(self) -> dict[str, Any]:
        """How many molecules have 1, 2, ... atoms, and mean and deviation of the property where it is handed out."""
        found: dict[str, Any] = {"counts": histogram(self._count, self._domain.size)}
        if self._domain.condition == "logp":
            fitted = Gaussian.fit(self.table.logp)
            found["condition_scale"] = [round(fitted.mean, 2), round(fitted.std, 2) or 1.0]
        return found

    @property
    def smiles(self) -> tuple[str, ...]:
        """Canonical SMILES without stereochemistry."""
        return self.table.smiles

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, D]``, the mask ``[B, N]`` and, where the domain has it, the standardised property."""
        rows = torch.as_tensor(list(indices), dtype=torch.long)
        size = self._domain.size
        bonds = torch.zeros(len(rows), size, size, dtype=torch.long)
        bonds[:, self._upper[0], self._upper[1]] = self._bonds[rows].long()
        states, mask = self._domain.pack(self._count[rows], self._atoms[rows].long(), bonds + bonds.transpose(1, 2))
        asks = self._domain.condition == "logp"
        given = {"logp": self._domain.standardised(self._logp[rows])} if asks else {}
        return states, Conditioning(given, mask=mask)


def _content_hash(table: Table, domain: Molecules) -> str:
    options = repr((domain.types, domain.size, domain.condition, domain.mean, domain.deviation))
    return content_hash(options, table.count, table.atoms, table.bonds, table.logp)


class KnownSet(MoleculeSet):
    """QM9 or ZINC250k; the registered names are :data:`QM9` and :data:`ZINC`.

    Args:
        key: ``"qm9"`` or ``"zinc"``.
        split: ``"train"`` or ``"test"``.
        part: ``"bundled"`` (what this package carries) or ``"full"``: all of it, the last tenth of a fixed order as
            test split; its molecules are in the training split in no stereochemistry. Reading takes about two minutes.
        path: for ``"full"``: a file of SMILES, or the container; None takes what ``anydiff data get`` fetched.
        condition: ``"logp"`` to hand out the property, or None.
        condition_scale: its (mean, deviation); None for (0, 1). Training takes it from the training split.
        domain: the recipe's, whose condition is handed out unless ``condition`` and its scale say otherwise; None makes
            the data set's own.
    """

    def __init__(
        self,
        key: str,
        split: Split = "train",
        part: Literal["bundled", "full"] = "bundled",
        path: str | Path | None = None,
        condition: str | None = None,
        condition_scale: Sequence[float] | None = None,
        domain: Domain | None = None,
    ) -> None:
        check_split(split)
        if part not in ("bundled", "full"):
            raise UnknownNameError("part of the set", str(part), ["bundled", "full"])
        if part == "bundled" and path is not None:
            raise AnydiffError(f"path is {str(path)!r}, but part is 'bundled'; say part='full' to read your own copy.")
        bundled = PARTS[key]
        table = read_bundle(key, split) if part == "bundled" else _full(key, split, path)
        own = {"condition": condition, "condition_scale": condition_scale}
        table_is = {"types": tuple(bundled.types), "size": bundled.size}
        fits = isinstance(domain, Molecules) and {name: getattr(domain, name) for name in table_is} == table_is
        made = domain_of_data(Molecules, domain if fits else None, table_is, **own)
        super().__init__(f"molecules/{key}", table, made)


QM9 = functools.partial(KnownSet, "qm9")
"""QM9: small organic molecules of up to 9 heavy atoms C, N, O, F (Ramakrishnan et al. 2014), hydrogens implicit."""

ZINC = functools.partial(KnownSet, "zinc")
"""ZINC250k: drug-like molecules (Gómez-Bombarelli et al. 2018), those of up to 20 heavy atoms."""


class MoleculeFile(MoleculeSet):
    """A user's own molecules: ``.smi``, ``.csv`` (column ``smiles``) or ``.sdf``; every tenth is the test split.

    What cannot be parsed or held is left out, counted and named in a warning. Types, size and the condition are those
    of the recipe's domain. Sizes of samples and the scale of the condition follow the training split.

    Args:
        path: the file, or the molecules themselves: RDKit objects, SMILES, or PyG graphs (a PyG data set).
        split: ``"train"`` or ``"test"``.
        types: vocabulary of atoms; None for the domain's.
        size: most heavy atoms; None for the domain's.
        condition: ``"logp"`` to hand out the property; None for the domain's.
        condition_scale: its (mean, deviation); None for the domain's. Training takes it from the training split.
        strict: refuse a file with an entry that cannot be parsed.
        domain: the recipe's; None makes one of C, N, O, F, S, Cl, Br, N+ and O-, up to 20 heavy atoms, no condition.
    """

    def __init__(
        self,
        path: str | Path | Iterable[Any],
        split: Split = "train",
        types: Sequence[str] | None = None,
        size: int | None = None,
        condition: str | None = None,
        condition_scale: Sequence[float] | None = None,
        strict: bool = False,
        domain: Domain | None = None,
    ) -> None:
        from anydiff_molecules import files

        check_split(split)
        own = {"types": types, "size": size, "condition": condition, "condition_scale": condition_scale}
        made = domain_of_data(Molecules, domain, {"types": FILE_TYPES, "size": 20}, **own)
        is_file = isinstance(path, (str, Path))
        what = repr(str(path)) if is_file else "path"
        reading = files.read(Path(path), strict) if is_file else files.gather(path)  # type: ignore[arg-type]
        if reading.unreadable and strict:
            raise AnydiffError(f"{what}: {reading.report} Repair them, or read without strict to leave them out.")
        table, dropped = tabulate(reading.molecules, made.types, made.size)
        reading.dropped.update(dropped)
        if len(table) < 10:
            raise AnydiffError(
                f"{what} leaves {len(table)} molecules, but at least 10 are needed for two splits. "
                f"{reading.report}".strip()
            )
        if reading.report:
            warnings.warn(f"{what}: {reading.report}", stacklevel=2)
        super().__init__("molecules/file", _chosen(table, every_tenth(len(table), split)), made)


def _chosen(table: Table, rows: list[int]) -> Table:
    smiles = tuple(table.smiles[row] for row in rows)
    return Table(table.count[rows], table.atoms[rows], table.bonds[rows], table.logp[rows], smiles)


def _full(key: str, split: Split, path: str | Path | None) -> Table:
    """The test split is the last tenth of a fixed order; of the rest, the training split is what is not in it."""
    from rdkit import Chem

    part, lines = PARTS[key], all_smiles(key, path)
    order = np.random.default_rng(0).permutation(len(lines))
    cut = len(lines) - len(lines) // 10

    def table(rows: np.ndarray, known: Sequence[str]) -> Table:
        parsed = (Chem.MolFromSmiles(lines[index]) for index in rows)
        return tabulate((each for each in parsed if each is not None), part.types, part.size, known)[0]

    test = table(order[cut:], ())
    return test if split == "test" else table(order[:cut], test.smiles)
