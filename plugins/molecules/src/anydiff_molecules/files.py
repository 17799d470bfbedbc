"""Files of molecules: SMILES, CSV and SDF in and out with a report of what was dropped and why; pictures."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdkit import Chem
from rdkit.Chem import AllChem, Draw

from anydiff.data import reading as guard
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_path
from anydiff_molecules import chemistry
from anydiff_molecules.objects import as_molecule

TEXT = (".smi", ".smiles", ".txt")
COLUMNS = ("smiles", "canonical_smiles", "smile")
MARK = "anydiff_invalid"
MAX_BYTES = 1 << 30
"""Bytes of a file of molecules."""


@dataclass
class Reading:
    """What a file held.

    Attributes:
        molecules: those that could be read, in order.
        places: the line or entry of each, from 1.
        unreadable: (place, text) of those that could not; no text where the file has none.
        empty: lines without a text.
        dropped: reason -> how many readable ones a domain refused.
        unit: what the places count.
    """

    molecules: list[Any] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    empty: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unit: str = "line"

    @property
    def report(self) -> str:
        """One sentence per kind of loss; empty if nothing was lost."""
        sentences = []
        if self.unreadable:
            first = ", ".join(
                f"{text!r} ({self.unit} {place})" if text else f"{self.unit} {place}"
                for place, text in self.unreadable[:5]
            )
            total = len(self.unreadable) + len(self.molecules)
            sentences.append(f"{len(self.unreadable)} of {total} entries could not be parsed, first {first}.")
        if self.empty:
            sentences.append(f"{_counted(self.empty, 'entry is', 'entries are')} empty.")
        for reason, count in self.dropped.most_common():
            sentences.append(f"{_counted(count, 'molecule was', 'molecules were')} left out: {reason}.")
        return " ".join(sentences)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def read(path: Path, strict: bool = False, keep_invalid: bool = False) -> Reading:
    """The molecules of ``.sdf``, ``.smi``/``.smiles``/``.txt`` (one per line, a name may follow) or ``.csv``.

    A CSV file needs a column called ``smiles`` in any case. What cannot be parsed is counted and named, or with
    ``strict`` an error; with ``keep_invalid`` a graph that is no valid molecule stays as it is, so that samples can be
    judged from their file. A file without a known ending is read as SDF.

    Raises:
        AnydiffError: nothing there, or with ``strict`` an entry that cannot be parsed.
        FileFormatError: damaged, larger than 1 GiB, no column of SMILES, or no molecule at all.
    """
    if not path.is_file():
        raise AnydiffError(f"cannot read molecules from {str(path)!r}: no such file; check the path.")
    suffix = path.suffix.lower()
    is_text = suffix in (*TEXT, ".csv")
    guard.check_file_size(path, MAX_BYTES, "file of molecules")
    what = "a text of SMILES" if is_text else "an SDF file"
    with guard.reading(path, what, "write it with RDKit, or export it again from where it was made"):
        reading = _read_text(path, suffix, keep_invalid) if is_text else _read_sdf(path, keep_invalid)
    if reading.unreadable and strict:
        raise AnydiffError(f"{str(path)!r}: {reading.report} Repair them, or read without strict to leave them out.")
    if not reading.molecules:
        raise FileFormatError(f"{str(path)!r} holds no molecule that can be parsed. {reading.report}".strip())
    return reading


def gather(objects: Iterable[Any]) -> Reading:
    """Molecules, SMILES or PyG graphs (a PyG data set, say) as if read from a file."""
    reading = Reading(unit="entry")
    for number, given in enumerate(objects, 1):
        try:
            reading.molecules.append(as_molecule(given))
            reading.places.append(number)
        except chemistry.Refused as refusal:
            if isinstance(given, str):
                reading.unreadable.append((number, given[:60]))
            else:
                reading.dropped[refusal.reason] += 1
    return reading


def _read_text(path: Path, suffix: str, keep_invalid: bool) -> Reading:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{str(path)!r} is no text ({error.reason}); give SMILES in UTF-8.") from None
    if suffix == ".csv":
        rows = _csv_column(path, text)
    else:
        rows = [(number, (line.split() or [""])[0]) for number, line in enumerate(text.rstrip().splitlines(), 1)]
    reading = Reading()
    for number, smiles in rows:
        molecule: Any = Chem.MolFromSmiles(smiles)  # None where it is no SMILES, whatever RDKit's stub says
        if molecule is None and keep_invalid:
            molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if not smiles:
            reading.empty += 1
        elif molecule is None or molecule.GetNumAtoms() == 0:
            reading.unreadable.append((number, smiles[:60]))
        else:
            reading.molecules.append(molecule)
            reading.places.append(number)
    return reading


def _csv_column(path: Path, text: str) -> list[tuple[int, str]]:
    rows = csv.reader(io.StringIO(text))
    head = [cell.strip().lower() for cell in next(rows, [])]
    column = next((head.index(name) for name in COLUMNS if name in head), None)
    if column is None:
        shown = [cell[:40] for cell in head[:8]]
        raise FileFormatError(f"{str(path)!r} has the columns {shown}, but none called 'smiles'; rename one.")
    return [(number, row[column].strip() if len(row) > column else "") for number, row in enumerate(rows, 2)]


def _read_sdf(path: Path, keep_invalid: bool) -> Reading:
    reading = Reading(unit="entry")
    if not path.read_bytes().strip():  # RDKit calls it an invalid file
        return reading
    with Chem.SDMolSupplier(str(path), sanitize=False) as supplier:
        for number, molecule in enumerate(supplier, 1):
            if molecule is not None and chemistry.is_valid(molecule):
                Chem.SanitizeMol(molecule)
                molecule = Chem.RemoveHs(molecule)
            elif molecule is None or molecule.GetNumAtoms() == 0 or not keep_invalid:
                reading.unreadable.append((number, ""))
                continue
            reading.molecules.append(molecule)
            reading.places.append(number)
    return reading


def write(molecules: Sequence[Any], path: Path) -> None:
    """Write ``.smi``, ``.csv`` (columns smiles, valid, logp, qed, weight) or SDF.

    An invalid molecule is written as what it is, a SMILES that no parser sanitises (an empty line would be read as a
    molecule without atoms, and pass for valid); CSV says so in its column, SDF in the field ``anydiff_invalid``.
    """
    suffix = path.suffix.lower()
    smiles = [chemistry.text_of(molecule) for molecule in molecules]
    if suffix in TEXT:
        text = "".join(f"{line}\n" for line in smiles)
    elif suffix == ".csv":
        text = _csv_text(molecules, smiles)
    else:
        text = "".join(_sdf_entry(molecule, number) for number, molecule in enumerate(molecules))
    with atomic_path(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def _csv_text(molecules: Sequence[Any], smiles: Sequence[str]) -> str:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["smiles", "valid", *chemistry.PROPERTIES])
    for molecule, line in zip(molecules, smiles, strict=True):
        valid = chemistry.is_valid(molecule)
        values = [f"{chemistry.property_of(name, molecule):.6g}" if valid else "" for name in chemistry.PROPERTIES]
        rows.writerow([line, int(valid), *values])
    return out.getvalue()


def _sdf_entry(molecule: Any, number: int) -> str:
    valid = chemistry.is_valid(molecule)
    block = Chem.MolToMolBlock(_flat(molecule), kekulize=valid)
    fields = f">  <anydiff_sample>\n{number}\n\n" + ("" if valid else f">  <{MARK}>\n1\n\n")
    return f"{block}{fields}$$$$\n"


def _flat(molecule: Any) -> Any:
    """A copy with coordinates in the plane; an invalid one may have none."""
    copy = Chem.Mol(molecule)
    try:
        copy.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(copy)
        AllChem.Compute2DCoords(copy)
    except (RuntimeError, ValueError):
        return Chem.Mol(molecule)
    return copy


def draw(molecules: Sequence[Any], path: Path, titles: Sequence[str] | None = None, columns: int = 0) -> None:
    """A grid of structural formulas (PNG); titles below, ``invalid`` where sanitisation fails.

    Raises:
        AnydiffError: no molecule is given.
    """
    from PIL import Image

    if not molecules:
        raise AnydiffError(f"there is no molecule to draw into {str(path)!r}; give at least one.")

    columns = columns or min(max(round(len(molecules) ** 0.5 * 1.3), 1), 12)
    legends = []
    for index, molecule in enumerate(molecules):
        title = titles[index] if titles else ""
        legends.append(title if chemistry.is_valid(molecule) else " ".join([title, "(invalid)"]).strip())
    options = Draw.MolDrawOptions()
    options.prepareMolsBeforeDrawing = False
    options.legendFontSize = 18
    picture = Draw.MolsToGridImage(
        [_flat(molecule) for molecule in molecules],
        molsPerRow=columns,
        subImgSize=(200, 170),
        legends=legends,
        drawOptions=options,
        returnPNG=True,
    )
    data = picture if isinstance(picture, bytes) else getattr(picture, "data", None)
    with atomic_path(path) as temporary:
        if isinstance(data, bytes):
            Path(temporary).write_bytes(data)
        elif isinstance(picture, Image.Image):
            picture.save(temporary, format="png")
