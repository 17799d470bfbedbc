"""Molecules as states: one-hot atom types (leaf ``nodes``), one-hot bond orders (leaf ``edges``), no hydrogens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anydiff.domains import Domain
from anydiff.domains.kit import Gaussian
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.files import check_suffix
from anydiff.states import Conditioning, Known, Leaf, StateSpec
from anydiff_molecules.bundle import PARTS
from anydiff_molecules.objects import as_molecule
from anydiff_molecules.sizes import decodable, sampled_mask

if TYPE_CHECKING:
    from anydiff.states import VectorCondition


class Molecules(Domain):
    """``rdkit.Chem.Mol`` (or SMILES, or ``torch_geometric.data.Data``) of at most ``size`` heavy atoms.

    Leaf ``nodes`` ``(N, F)``: one-hot types. Leaf ``edges`` ``(N, N, 3)``: one-hot orders single, double, triple; no
    bond is all zero. Entries of absent atoms are zero. A state is read back by its nearest molecule: the largest node
    channel, and the largest edge channel where it exceeds 1/2.

    Args:
        types: vocabulary of atoms: elements with a charge, ``C``, ``N+``, ``O-``.
        size: N, the most heavy atoms.
        counts: weights of 1, 2, ..., N heavy atoms, from which sizes are drawn; None for N always.
        condition: a property that samples can be asked for, ``"logp"``, or None.
        condition_scale: (mean, deviation) that the network sees the property in; None for (0, 1). Training takes it
            and ``counts`` from its data.
    """

    name = "molecules"
    suffixes = (".sdf", ".smi", ".smiles", ".txt", ".csv")

    def __init__(
        self,
        types: Sequence[str] = PARTS["qm9"].types,
        size: int = 9,
        counts: Sequence[float] | None = None,
        condition: str | None = None,
        condition_scale: Sequence[float] | None = None,
    ) -> None:
        self.types = tuple(types)
        self.size = natural_number("size", size)
        if len(set(self.types)) != len(self.types) or not self.types:
            raise AnydiffError(f"types is {list(self.types)}, but must name each atom type once.")
        if condition not in (None, "logp"):
            raise UnknownNameError("condition", str(condition), ["logp"])
        self.counts = None if counts is None else [float(weight) for weight in counts]
        self.condition = condition
        condition_scale = (0.0, 1.0) if condition_scale is None else tuple(condition_scale)
        if len(condition_scale) != 2 or not condition_scale[1] > 0:
            raise AnydiffError(
                f"condition_scale is {list(condition_scale)}, but must be (mean, deviation), the deviation positive."
            )
        self.condition_scale = condition_scale
        self.mean, self.deviation = (float(number) for number in condition_scale)
        self.property_scale = Gaussian(self.mean, self.deviation)
        nodes = Leaf("nodes", (self.size, len(self.types)), mask_axes=(0,), range=(0.0, 1.0))
        edges = Leaf(
            "edges", (self.size, self.size, 3), symmetric=True, zero_diagonal=True, mask_axes=(0, 1), range=(0.0, 1.0)
        )
        self._spec = StateSpec([nodes, edges])

    @property
    def spec(self) -> StateSpec:
        """Leaves ``nodes`` and ``edges``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """The vocabulary, the size, and the property with its scale."""
        return {
            "types": self.types,
            "size": self.size,
            "condition": self.condition,
            "condition_scale": (self.mean, self.deviation),
        }

    @property
    def conditions(self) -> dict[str, VectorCondition]:
        """The property that samples can be asked for, standardised."""
        from anydiff.states import VectorCondition

        return {} if self.condition is None else {self.condition: VectorCondition(1)}

    def standardised(self, values: Tensor) -> Tensor:
        """A property as the network sees it: (value - mean)/deviation, float32 ``[B, 1]``."""
        return self.property_scale.encode(values.double()).float().reshape(-1, 1)

    def sample_mask(self, samples: Sequence[int], seed: int) -> Tensor:
        """Sizes drawn by ``counts``, each sample from its own stream."""
        return sampled_mask(self.counts, self.size, samples, seed)

    def pack(self, count: Tensor, atoms: Tensor, bonds: Tensor) -> tuple[Tensor, Tensor]:
        """States and masks from sizes ``[B]``, types ``[B, N]`` and orders ``[B, N, N]`` (0 for none)."""
        mask = torch.arange(self.size) < count.reshape(-1, 1)
        nodes = torch.nn.functional.one_hot(atoms, len(self.types)) * mask[..., None]
        edges = torch.nn.functional.one_hot(bonds, 4)[..., 1:]
        return self.spec.pack({"nodes": nodes.float(), "edges": edges.float()}), mask

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States of molecules, SMILES or PyG graphs, atoms in their own order.

        Raises:
            AnydiffError: a molecule this domain cannot hold; the sentence names the first.
        """
        from anydiff_molecules import chemistry

        count = torch.zeros(len(objects), dtype=torch.long)
        atoms = torch.zeros(len(objects), self.size, dtype=torch.long)
        bonds = torch.zeros(len(objects), self.size, self.size, dtype=torch.long)
        for row, given in enumerate(objects):
            try:
                kinds, orders = chemistry.to_arrays(as_molecule(given), self.types, self.size)
            except chemistry.Refused as refusal:
                raise AnydiffError(
                    f"molecule {row} cannot be encoded: {refusal.reason}; this domain holds up to {self.size} atoms of "
                    f"{', '.join(self.types)}."
                ) from None
            count[row] = len(kinds)
            atoms[row, : len(kinds)] = torch.from_numpy(kinds)
            bonds[row, : len(kinds), : len(kinds)] = torch.from_numpy(orders)
        return self.pack(count, atoms, bonds)[0]

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Any]:
        """The nearest molecules, sanitised where that is possible; the others stay as they are (``is_valid`` tells).

        Absent atoms are those that ``condition.mask`` says, or without it those whose entries are all zero.

        Raises:
            AnydiffError: states of another shape or with values that are not finite.
        """
        from anydiff_molecules import chemistry

        states, mask = decodable(self.spec, states, condition, "molecules")
        leaves = self.spec.unpack(states)
        atoms = leaves["nodes"].argmax(dim=2).numpy()
        strength, order = leaves["edges"].max(dim=3)
        bonds = torch.where(strength > 0.5, order + 1, 0).numpy()
        molecules = []
        for kinds, orders, present in zip(atoms, bonds, mask.numpy(), strict=True):
            rows = np.flatnonzero(present)
            molecules.append(chemistry.to_molecule(kinds[rows], orders[np.ix_(rows, rows)], self.types))
        return molecules

    def to_pyg(self, molecules: Sequence[Any]) -> list[Any]:
        """``torch_geometric.data.Data`` with PyG's own features of molecules (needs the extra ``pyg``)."""
        from anydiff_molecules import pyg

        return pyg.from_molecules(molecules)

    def scaffold(self, molecule: Any, atoms: Sequence[int] | None = None) -> Known:
        """What ``Pipeline.sample(known=, known_mask=)`` needs to complete a molecule: its state and which entries stay.

        The types of the given ``atoms`` (by index; all by default) and all bonds among them are fixed; what else they
        are bonded to is left open. Sizes are drawn as ever, and where one is too small for the atoms, they are all of
        it; ``condition={"mask": ...}`` asks for others. The molecule's atoms are the first ones.

        Raises:
            AnydiffError: a molecule this domain cannot hold, or an atom it does not have.
        """
        state = self.encode([molecule])
        count = int(self.spec.mask_of(state).sum())
        if atoms is not None and not (len(atoms) and set(atoms) <= set(range(count))):
            raise AnydiffError(f"atoms is {list(atoms)}, but must name some of the molecule's, 0 to {count - 1}.")
        fixed = range(as_molecule(molecule).GetNumAtoms()) if atoms is None else atoms
        chosen = torch.zeros(self.size, dtype=torch.bool)
        chosen[list(fixed)] = True
        nodes = chosen[:, None].expand(-1, len(self.types))
        edges = (chosen[:, None] & chosen)[..., None].expand(-1, -1, 3)
        return Known(state[0], self.spec.pack({"nodes": nodes[None], "edges": edges[None]})[0])

    def parse_known(self, text: str) -> Known:
        """:meth:`scaffold` of a SMILES."""
        return self.scaffold(text.strip())

    def read(self, path: str | Path) -> list[Any]:
        """Molecules of an ``.sdf``, ``.smi``/``.txt`` or ``.csv`` file; see :func:`anydiff_molecules.files.read`.

        Graphs that are no valid molecules are kept, as samples are judged with them. What is no graph at all is left
        out, counted and named in a warning.
        """
        from anydiff_molecules import files

        reading = files.read(Path(path), keep_invalid=True)
        if reading.report:
            warnings.warn(f"{str(path)!r}: {reading.report} They are left out, and in no share.", stacklevel=2)
        return reading.molecules

    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """Write ``.smi``, ``.smiles`` or ``.txt`` (SMILES), ``.csv`` or ``.sdf``; that of an invalid molecule does not
        sanitise.

        Raises:
            AnydiffError: another ending.
        """
        from anydiff_molecules import files

        check_suffix(path, self.suffixes, "molecules")
        files.write(objects, Path(path))

    def canonical(self, objects: Sequence[Any]) -> list[Any]:
        """Each molecule with its atoms in the order of its canonical SMILES: all that SMILES and CSV files keep.

        An ``.sdf`` also keeps the order of the atoms.
        """
        from anydiff_molecules import chemistry

        return [chemistry.canonical_form(as_molecule(each)) for each in objects]

    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write a grid of structural formulas (PNG); what is not valid is drawn as it is and marked."""
        from anydiff_molecules import files

        files.draw(objects, Path(path), titles)

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"logp": "2.5"}``, or a comma list cycled over ``count`` -> standardised ``[count, 1]``.

        Raises:
            UnknownNameError: a condition this domain does not have.
            AnydiffError: a text that is no number.
        """
        for name in text:
            if name not in self.conditions:
                raise UnknownNameError("condition", name, self.conditions)
        out = {}
        for name, value in text.items():
            try:
                numbers = [float(part) for part in str(value).split(",") if part.strip()]
            except ValueError:
                numbers = []
            if not numbers or not np.isfinite(numbers).all():
                raise AnydiffError(
                    f"{name} is {value!r}, but must be a number or a comma list of numbers, such as 2.5."
                )
            wanted = torch.tensor([numbers[index % len(numbers)] for index in range(count)])
            out[name] = self.standardised(wanted)
        return out

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """The property that was asked for, in its own units."""
        if self.condition is None or self.condition not in condition.given:
            return []
        values = self.property_scale.decode(condition.given[self.condition].double().reshape(-1))
        return [f"{self.condition} {value:.1f}" for value in values.tolist()]
