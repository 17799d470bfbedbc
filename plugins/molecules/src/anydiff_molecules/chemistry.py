"""Between ``rdkit.Chem.Mol`` and arrays: atom types with charges, bond orders; validity in two definitions; properties.

An atom type is an element with its formal charge, written ``C``, ``N+``, ``O-``; hydrogens are implicit (RDKit fills
valences). Bonds are Kekulé orders 1, 2 or 3. Stereochemistry and isotopes are not represented.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDLogger
from rdkit.Chem import QED, Crippen, Descriptors

from anydiff.errors import AnydiffError

RDLogger.DisableLog("rdApp.*")  # every unparsable line would print two; they are counted and named instead

ORDERS = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
PROPERTIES: dict[str, Callable[[Any], float]] = {"logp": Crippen.MolLogP, "qed": QED.qed, "weight": Descriptors.MolWt}
"""Property name -> function of a sanitised molecule: Wildman-Crippen log P, QED, molecular weight in g/mol."""


class Refused(AnydiffError):
    """A molecule that the domain cannot hold; ``reason`` is what reports count."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}.")
        self.reason = reason


def atom_type(atom: Any) -> str:
    """Element and charge: ``N+``, ``O-``, ``C``, ``Fe+2``."""
    charge = atom.GetFormalCharge()
    size = "" if abs(charge) < 2 else str(abs(charge))
    return f"{atom.GetSymbol()}{'+' if charge > 0 else '-' if charge < 0 else ''}{size}"


@functools.lru_cache(maxsize=256)
def parse_atom_type(text: str) -> tuple[str, int]:
    """(element, charge) of an atom type.

    Raises:
        AnydiffError: no such element, or a charge that is no number.
    """
    element = text.rstrip("0123456789").rstrip("+-")
    rest = text[len(element) :]
    try:
        Chem.GetPeriodicTable().GetAtomicNumber(element)
        charge = 0 if not rest else int(rest[1:] or 1) * (1 if rest[0] == "+" else -1)
    except (RuntimeError, ValueError):
        raise AnydiffError(f"atom type {text!r} is no element with a charge; write C, N+ or O-.") from None
    return element, charge


def to_arrays(molecule: Any, types: Sequence[str], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(atom types ``[n]``, bond orders ``[n, n]``, 0 for none) of a molecule, in its own order of atoms.

    Kekulé orders depend on the graph and the order of atoms alone, so that decoding and encoding again changes nothing.

    Raises:
        Refused: an atom outside the vocabulary, no atom, too many, a bond that is none of three orders, or a radical.
    """
    count = molecule.GetNumAtoms()
    if count == 0:
        raise Refused("it has no atoms")
    if count > size:
        raise Refused(f"it has more than {size} heavy atoms")
    kekule = _kekule(molecule)
    known = {name: index for index, name in enumerate(types)}
    atoms = np.zeros(count, dtype=np.int64)
    for index, atom in enumerate(kekule.GetAtoms()):
        name = atom_type(atom)
        if name not in known:
            hint = " (Chem.RemoveHs makes hydrogens implicit)" if name == "H" else ""
            raise Refused(f"atom type {name} is outside the vocabulary{hint}")
        if atom.GetNumRadicalElectrons():
            raise Refused("it has a radical, and hydrogens are filled in by valences")
        atoms[index] = known[name]
    bonds = np.zeros((count, count), dtype=np.int64)
    for bond in kekule.GetBonds():
        if bond.GetBondType() not in ORDERS:
            raise Refused(f"a bond of type {bond.GetBondType()} is neither single, double nor triple")
        order = ORDERS.index(bond.GetBondType()) + 1
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[i, j] = bonds[j, i] = order
    return atoms, bonds


def _kekule(molecule: Any) -> Any:
    """A copy with bonds in the order of their atoms and without aromatic ones."""
    if not any(bond.GetIsAromatic() for bond in molecule.GetBonds()):
        return molecule
    copy = Chem.RWMol()
    for atom in molecule.GetAtoms():
        copy.AddAtom(atom)
    pairs = sorted(
        (*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), bond.GetIdx()) for bond in molecule.GetBonds()
    )
    for i, j, index in pairs:
        bond = molecule.GetBondWithIdx(index)
        copy.AddBond(i, j, bond.GetBondType())
        copy.GetBondBetweenAtoms(i, j).SetIsAromatic(bond.GetIsAromatic())
    try:
        Chem.Kekulize(copy, clearAromaticFlags=True)
    except (Chem.KekulizeException, ValueError, RuntimeError):
        raise Refused("its aromatic bonds have no Kekulé form") from None
    return copy


def to_molecule(atoms: Sequence[int] | NDArray[np.int64], bonds: NDArray[np.int64], types: Sequence[str]) -> Any:
    """The molecule of arrays, sanitised where that is possible and as it is where not (see :func:`is_valid`)."""
    molecule = Chem.RWMol()
    for kind in atoms:
        element, charge = parse_atom_type(types[int(kind)])
        atom = Chem.Atom(element)
        atom.SetFormalCharge(charge)
        molecule.AddAtom(atom)
    for i, j in zip(*np.nonzero(np.triu(bonds, 1)), strict=True):
        molecule.AddBond(int(i), int(j), ORDERS[int(bonds[i, j]) - 1])
    plain = molecule.GetMol()
    clean = Chem.Mol(plain)
    # Not the clean-up, which charges a nitrogen of five bonds before valences are looked at.
    steps = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_CLEANUP
    return clean if _sanitised(clean, steps) else plain


def _sanitised(molecule: Any, flags: Any) -> bool:
    return bool(Chem.SanitizeMol(molecule, sanitizeOps=flags, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE)


def is_valid(molecule: Any) -> bool:
    """Whether RDKit's full sanitisation accepts the whole molecule (valences, aromaticity, rings); no fragment is
    dropped and nothing is corrected."""
    return molecule.GetNumAtoms() > 0 and _sanitised(Chem.Mol(molecule), Chem.SanitizeFlags.SANITIZE_ALL)


def has_valid_valences(molecule: Any) -> bool:
    """GDSS's ``validity w/o correction``: RDKit's sanitisation of properties (valences) alone."""
    return molecule.GetNumAtoms() > 0 and _sanitised(Chem.Mol(molecule), Chem.SanitizeFlags.SANITIZE_PROPERTIES)


def is_connected(molecule: Any) -> bool:
    """Whether the molecule is one fragment."""
    return molecule.GetNumAtoms() > 0 and len(Chem.GetMolFrags(molecule)) == 1


def corrected(molecule: Any) -> Any:
    """A valid molecule: bonds at over-full atoms are lowered, the highest first, then the largest fragment is kept.

    The correction of GDSS's evaluation (after Zang & Wang, MoFlow, KDD 2020), which makes every graph valid; a share
    of valid molecules after it says nothing of the model. None where nothing is left. Atoms are taken in canonical
    order, so that the result is that of the graph, whatever the order of its atoms.
    """
    if not (is_valid(molecule) and is_connected(molecule)):
        molecule = _in_canonical_order(molecule)
    molecule = Chem.RWMol(molecule)
    for atom in molecule.GetAtoms():
        atom.SetNoImplicit(False)
    for _ in range(4 * molecule.GetNumAtoms() + 4):
        problems = [p for p in Chem.DetectChemistryProblems(molecule) if p.GetType() == "AtomValenceException"]
        if not problems:
            break
        bonds = molecule.GetAtomWithIdx(problems[0].GetAtomIdx()).GetBonds()
        if not bonds:
            break
        worst = max(bonds, key=lambda bond: (bond.GetBondTypeAsDouble(), bond.GetBeginAtomIdx() + bond.GetEndAtomIdx()))
        i, j, order = worst.GetBeginAtomIdx(), worst.GetEndAtomIdx(), int(worst.GetBondTypeAsDouble())
        molecule.RemoveBond(i, j)
        if order > 1:
            molecule.AddBond(i, j, ORDERS[order - 2])
    fragments = Chem.GetMolFrags(molecule, asMols=True, sanitizeFrags=False)
    if not fragments:
        return None
    largest = max(fragments, key=lambda fragment: fragment.GetNumAtoms())
    return largest if _sanitised(largest, Chem.SanitizeFlags.SANITIZE_ALL) else None


def _in_canonical_order(molecule: Any) -> Any:
    """A copy with its atoms in an order that depends on the graph alone."""
    copy = Chem.Mol(molecule)
    copy.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(copy)
    ranks = list(Chem.CanonicalRankAtoms(copy, breakTies=True))
    return Chem.RenumberAtoms(molecule, sorted(range(len(ranks)), key=ranks.__getitem__)) if ranks else molecule


def canonical(molecule: Any) -> str:
    """Canonical SMILES without stereochemistry of a valid molecule."""
    copy = Chem.Mol(molecule)
    Chem.SanitizeMol(copy)
    return str(Chem.MolToSmiles(copy, isomericSmiles=False))


def text_of(molecule: Any) -> str:
    """:func:`canonical` of a valid molecule; of another the SMILES of its graph as it is, which does not sanitise."""
    if is_valid(molecule):
        return canonical(molecule)
    copy = Chem.Mol(molecule)
    copy.UpdatePropertyCache(strict=False)
    return str(Chem.MolToSmiles(copy, isomericSmiles=False))


def canonical_form(molecule: Any) -> Any:
    """The molecule that :func:`text_of` says: the same graph, its atoms in the order of that SMILES."""
    text = text_of(molecule)
    valid: Any = Chem.MolFromSmiles(text)  # None where it is not valid, whatever RDKit's stub says
    return Chem.MolFromSmiles(text, sanitize=False) if valid is None else valid


def property_of(name: str, molecule: Any) -> float:
    """A property of a valid molecule; see :data:`PROPERTIES`."""
    copy = Chem.Mol(molecule)
    Chem.SanitizeMol(copy)
    return _property(name, copy.ToBinary())


@functools.lru_cache(maxsize=1 << 16)
def _property(name: str, packed: bytes) -> float:
    """The property of a molecule in RDKit's binary form; remembered, as a reference set is asked again and again."""
    molecule = Chem.Mol(packed)
    Chem.SanitizeMol(molecule)
    return float(PROPERTIES[name](molecule))
