"""Reads QM9 and ZINC250k as they are published: every SMILES, from a container or a file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from anydiff.data import cached_container, read_members
from anydiff.data.reading import read_text
from anydiff.errors import FileFormatError
from anydiff_molecules import ledger

MAX_BYTES = 1 << 30


def all_smiles(key: str, path: str | Path | None = None) -> list[str]:
    """Every SMILES of QM9 or ZINC250k from its container, or from a file of SMILES.

    Raises:
        AnydiffError: nothing was fetched; says how.
        FileFormatError: the container is damaged.
    """
    row = {"qm9": ledger.QM9, "zinc": ledger.ZINC}[key]
    archive = row.container
    assert archive is not None  # both rows name one
    if path is not None and Path(path).suffix in (".smi", ".txt"):
        return read_text(path, MAX_BYTES, "a file of SMILES").split()
    container = Path(path) if path is not None else cached_container(row)
    members = read_members(container, archive.members)
    if key == "zinc":
        return members[archive.members[0]].decode().split()
    smiles: list[str] = []
    csv.field_size_limit(2**27)
    for name in archive.members:
        rows = csv.reader(io.StringIO(members[name].decode()))
        head = next(rows, [])
        if "SMILES" not in head:
            raise FileFormatError(f"{name!r} in {str(container)!r} has no column SMILES; fetch the container again.")
        column = head.index("SMILES")
        smiles += [line[column] for line in rows]
    return smiles
