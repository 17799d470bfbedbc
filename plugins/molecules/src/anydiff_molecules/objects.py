"""What is taken for a molecule: RDKit's objects, SMILES, and graphs of PyTorch Geometric."""

from __future__ import annotations

from typing import Any


def as_molecule(given: Any) -> Any:
    """A molecule as it is, that of a SMILES, or that of a PyG graph.

    Raises:
        Refused: a SMILES that does not parse, a graph without the features of a molecule, or anything else.
    """
    from rdkit import Chem

    from anydiff_molecules import chemistry, pyg

    if isinstance(given, Chem.Mol):
        return given
    if isinstance(given, str):
        parsed = Chem.MolFromSmiles(given)
        if parsed is None:
            raise chemistry.Refused(f"{given!r} is no SMILES")
        return parsed
    if hasattr(given, "edge_index"):
        return pyg.to_molecule(given)
    raise chemistry.Refused(f"it is a {type(given).__name__}, none of rdkit.Chem.Mol, SMILES and PyG Data")
