"""``torch_geometric.data.Data`` in and out, with the features of PyG's own ``torch_geometric.utils.from_rdmol``.

``x [n, 9]`` holds the atomic number in column 0, the formal charge plus 5 in 3, the hydrogens in 4 and whether the atom
is aromatic in 7; ``edge_attr [e, 3]`` the type of bond in column 0 (1, 2, 3, or 12: aromatic). The others follow from
these and are not read. Nothing of PyG is imported to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rdkit import Chem

from anydiff_molecules.chemistry import ORDERS, Refused

_FEATURES = "give those of torch_geometric.utils.from_smiles, or the attribute smiles"
_BONDS = {order + 1: bond for order, bond in enumerate(ORDERS)} | {12: Chem.BondType.AROMATIC}


def to_molecule(data: Any) -> Any:
    """The molecule of a PyG graph as it is, not sanitised; of one without such features, of its ``smiles``.

    Raises:
        Refused: features are missing or others, or the graph is directed or has self-loops.
    """
    x: Any
    edge_attr: Any
    x, edge_attr, smiles = (getattr(data, name, None) for name in ("x", "edge_attr", "smiles"))
    fits = x is not None and edge_attr is not None and (*x.shape[1:], *edge_attr.shape[1:]) == (9, 3)
    if not fits and isinstance(smiles, str):
        parsed = Chem.MolFromSmiles(smiles)
        if parsed is None:
            raise Refused(f"its smiles {smiles!r} is no SMILES")
        return parsed
    for name, value, width in (("x", x, 9), ("edge_attr", edge_attr, 3)):
        if value is None:
            raise Refused(f"it has no features {name}; {_FEATURES}")
        if value.ndim != 2 or value.shape[1] != width or value.is_floating_point():
            raise Refused(f"its {name} is not of {width} whole numbers each; {_FEATURES}")
    molecule = Chem.RWMol()
    for row in x.tolist():
        atom = Chem.Atom(row[0])
        atom.SetFormalCharge(row[3] - 5)
        atom.SetNumExplicitHs(row[4])
        atom.SetIsAromatic(bool(row[7]))
        molecule.AddAtom(atom)
    kinds = {(i, j): kind for (i, j), (kind, *_) in zip(data.edge_index.t().tolist(), edge_attr.tolist(), strict=True)}
    for (i, j), kind in kinds.items():
        if (j, i) not in kinds:
            raise Refused("it is directed: its edge_index lacks reversed edges, which ToUndirected() adds")
        if i == j:
            raise Refused("it has a self-loop, which no molecule has")
        if kind not in _BONDS or kind != kinds[j, i]:
            raise Refused(f"its bond between atoms {i} and {j} is of type {kind}, none of {sorted(_BONDS)}")
        if i < j:
            molecule.AddBond(i, j, _BONDS[kind])
            molecule.GetBondBetweenAtoms(i, j).SetIsAromatic(kind == 12)
    return molecule.GetMol()


def from_molecules(molecules: Sequence[Any]) -> list[Any]:
    """``Data`` objects of molecules, valid or not (needs the extra ``pyg``)."""
    from torch_geometric.utils.smiles import from_rdmol

    graphs = []
    for molecule in molecules:
        copy = Chem.Mol(molecule)
        copy.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(copy)
        graphs.append(from_rdmol(copy))
    return graphs
