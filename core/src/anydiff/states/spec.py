"""What one sample is: named leaves, packed into one tensor, with the symmetries and masks each leaf obeys.

Solvers, guidance and objectives see one tensor ``[B, *shape]`` (a *State*). A spec with one leaf keeps that leaf's own
shape, so an image is ``[B, C, H, W]``; several leaves are flattened and laid side by side, ``[B, D]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError


@dataclass(frozen=True)
class Leaf:
    """One named part of a sample.

    Attributes:
        name: its name, unique in the spec.
        shape: its shape without the batch axis.
        kind: ``"continuous"`` (real numbers) or ``"categorical"`` (one of ``classes`` values per entry, 0 to
            ``classes`` - 1; noised states may hold the mask ``classes``).
        classes: K, the number of classes of a categorical leaf.
        symmetric: the first two axes form a symmetric matrix (an adjacency).
        zero_diagonal: the diagonal of those two axes is zero (no self-loops).
        mask_axes: the axes along which a node mask ``[B, N]`` zeroes entries: ``(0,)`` for node features ``(N, F)``,
            ``(0, 1)`` for an adjacency ``(N, N)``.
        range: least and greatest value of clean data, where known.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["continuous", "categorical"] = "continuous"
    classes: int | None = None
    symmetric: bool = False
    zero_diagonal: bool = False
    mask_axes: tuple[int, ...] = ()
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if any(size < 1 for size in self.shape):
            raise AnydiffError(f"leaf {self.name!r} has shape {self.shape}, but every axis needs a size of at least 1.")
        if (self.symmetric or self.zero_diagonal) and (len(self.shape) < 2 or self.shape[0] != self.shape[1]):
            raise AnydiffError(
                f"leaf {self.name!r} is symmetric or has a zero diagonal, but its shape {self.shape} does not begin "
                "with two equal axes; reshape it to (N, N, ...)."
            )
        if (self.kind == "categorical") != (self.classes is not None):
            raise AnydiffError(
                f"leaf {self.name!r} is {self.kind} with classes={self.classes}; give classes exactly when categorical."
            )

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def categorical(self) -> bool:
        """Whether its entries are classes."""
        return self.kind == "categorical"

    def project(self, value: Tensor, mask: Tensor | None) -> Tensor:
        """The orthogonal projection of ``value [B, *shape]`` onto this leaf's symmetry and mask.

        Symmetry replaces a matrix by the mean of itself and its transpose; the diagonal and the entries of absent
        nodes (``mask [B, N]`` false) become zero. Class numbers have no mean: there the upper triangle is mirrored.
        """
        if self.symmetric and self.categorical:
            value = mirrored(value)
        elif self.symmetric:
            value = (value + value.transpose(1, 2)) / 2
        return self.zero_out(value, mask)

    def zero_out(self, value: Tensor, mask: Tensor | None) -> Tensor:
        """``value [B, *shape]`` with the diagonal (if ``zero_diagonal``) and masked entries set to zero."""
        if self.zero_diagonal:
            keep = ~torch.eye(self.shape[0], dtype=torch.bool, device=value.device)
            value = value * keep.reshape(1, *keep.shape, *([1] * (len(self.shape) - 2)))
        if mask is not None:
            for axis in self.mask_axes:
                view = [mask.shape[0]] + [1] * len(self.shape)
                view[axis + 1] = self.shape[axis]
                value = value * mask.reshape(view)
        return value


def mirrored(value: Tensor) -> Tensor:
    """``value [B, N, N, ...]`` with its upper triangle and diagonal mirrored into the lower one."""
    rows, columns = torch.tril_indices(value.shape[1], value.shape[1], -1, device=value.device)
    out = value.clone()
    out[:, rows, columns] = value[:, columns, rows]
    return out


@dataclass(frozen=True)
class StateSpec:
    """The leaves of one sample and how they are packed into one tensor.

    ``pack`` and ``unpack`` are inverse; ``unpack`` gives views, so writing to a view writes to the state. States whose
    leaves are all categorical are int64; beside continuous leaves, class numbers stand in the float tensor.
    """

    leaves: tuple[Leaf, ...]
    names: tuple[str, ...] = field(init=False)

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        object.__setattr__(self, "leaves", tuple(leaves))
        object.__setattr__(self, "names", tuple(leaf.name for leaf in self.leaves))
        if not self.leaves:
            raise AnydiffError("a StateSpec needs at least one leaf, but leaves is empty.")
        if len(set(self.names)) != len(self.names):
            raise AnydiffError(f"the leaves of a StateSpec need different names, but they are {list(self.names)}.")

    @classmethod
    def single(cls, shape: tuple[int, ...], name: str = "state", **options: Any) -> StateSpec:
        """A spec of one leaf; ``options`` as for :class:`Leaf`."""
        return cls([Leaf(name, tuple(shape), **options)])

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one packed sample: the leaf's own if there is one leaf, else ``(D,)``."""
        return self.leaves[0].shape if len(self.leaves) == 1 else (self.size,)

    @cached_property
    def size(self) -> int:
        """Number of entries of one sample, all leaves together."""
        return sum(leaf.size for leaf in self.leaves)

    @cached_property
    def offsets(self) -> dict[str, tuple[int, int]]:
        """Where each leaf begins and ends in the flattened state."""
        out, start = {}, 0
        for leaf in self.leaves:
            out[leaf.name] = (start, start + leaf.size)
            start += leaf.size
        return out

    def leaf(self, name: str) -> Leaf:
        """The leaf called ``name``."""
        for leaf in self.leaves:
            if leaf.name == name:
                return leaf
        raise UnknownNameError("leaf", name, self.names)

    def pack(self, values: Mapping[str, Tensor]) -> Tensor:
        """One tensor ``[B, *self.shape]`` from one tensor ``[B, *leaf.shape]`` per leaf.

        Raises:
            AnydiffError: a leaf is missing, unknown, or of another shape.
        """
        for name in values:
            self.leaf(name)
        flat = []
        for leaf in self.leaves:
            if leaf.name not in values:
                raise AnydiffError(f"leaf {leaf.name!r} is missing; give all of {list(self.names)}.")
            value = values[leaf.name]
            if tuple(value.shape[1:]) != leaf.shape:
                wanted = ", ".join(map(str, leaf.shape))
                raise AnydiffError(f"leaf {leaf.name!r} has shape {tuple(value.shape)}, but needs [B, {wanted}].")
            flat.append(value.reshape(value.shape[0], leaf.size))
        rows = {name: value.shape[0] for name, value in values.items()}
        if len(set(rows.values())) > 1:
            raise AnydiffError(f"the leaves have different numbers of rows, {rows}; give one row per sample to each.")
        packed = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        return packed.reshape(packed.shape[0], *self.shape)

    def unpack(self, state: Tensor) -> dict[str, Tensor]:
        """Named views ``[B, *leaf.shape]`` of a contiguous ``state [B, *self.shape]``; no copy."""
        self.check(state)
        flat = state.view(state.shape[0], self.size)
        return {
            leaf.name: flat[:, start:stop].view(state.shape[0], *leaf.shape)
            for leaf, (start, stop) in zip(self.leaves, self.offsets.values(), strict=True)
        }

    def check(self, state: Tensor) -> None:
        """Raise an :class:`~anydiff.errors.AnydiffError` unless ``state`` has shape ``[B, *self.shape]``."""
        if tuple(state.shape[1:]) != self.shape:
            raise AnydiffError(
                f"the state has shape {tuple(state.shape)}, but needs [B, {', '.join(map(str, self.shape))}]."
            )

    def project(self, state: Tensor, mask: Tensor | None = None) -> Tensor:
        """Orthogonal projection of ``state`` onto every leaf's symmetry and mask; ``mask [B, N]`` marks real nodes."""
        if mask is None and not any(leaf.symmetric or leaf.zero_diagonal for leaf in self.leaves):
            return state
        return self.pack({leaf.name: leaf.project(view, mask) for leaf, view in self._pairs(state)})

    @cached_property
    def categorical(self) -> bool:
        """Whether all leaves are categorical, so that states are int64."""
        return all(leaf.categorical for leaf in self.leaves)

    @cached_property
    def mixed(self) -> bool:
        """Whether there are leaves of both kinds."""
        return not self.categorical and any(leaf.categorical for leaf in self.leaves)

    def dtype(self, number: torch.dtype = torch.float32) -> torch.dtype:
        """The type of states: int64 where all leaves are categorical, else ``number``.

        Raises:
            AnydiffError: half precision for class numbers beside real ones, which are exact to 2^24 in float32 only.
        """
        if self.categorical:
            return torch.int64
        if self.mixed and number not in (torch.float32, torch.float64):
            raise AnydiffError(
                f"states with class numbers beside real ones are to be {str(number).removeprefix('torch.')}, which "
                "rounds class numbers; take float32 or float64."
            )
        return number

    @cached_property
    def prediction(self) -> StateSpec:
        """How a prediction is packed: as the state, with a last axis of K numbers more for each categorical leaf."""
        if not any(leaf.categorical for leaf in self.leaves):
            return self
        made = (Leaf(leaf.name, (*leaf.shape, leaf.classes)) if leaf.classes else leaf for leaf in self.leaves)
        return StateSpec(made)

    def require_continuous(self, what: str) -> None:
        """Refuse classes on a path of real numbers; ``what`` names it in the error.

        Raises:
            AnydiffError: a leaf is categorical.
        """
        for leaf in self.leaves:
            if leaf.categorical:
                raise AnydiffError(
                    f"leaf {leaf.name!r} is categorical, but {what} adds noise to real numbers; take a categorical "
                    f"path (masked, say), or make it continuous with a last axis of {leaf.classes} channels, one per "
                    "class (one-hot)."
                )

    def check_classes(self, state: Tensor, what: str) -> None:
        """Refuse clean states with a class number that is none of 0 to K - 1; ``what`` names their owner.

        Raises:
            AnydiffError: the sentence names leaf and value.
        """
        for leaf, value in self._pairs(state) if any(leaf.categorical for leaf in self.leaves) else ():
            if leaf.classes is None or not value.numel():
                continue
            wrong = (value < 0) | (value >= leaf.classes)
            if value.is_floating_point():
                wrong |= value != value.round()
            if bool(wrong.any()):
                found = value[wrong][0].item()
                mask = ", the mask, which only noised states hold" if found == leaf.classes else ""
                raise AnydiffError(
                    f"leaf {leaf.name!r} of {what} holds {found:g}{mask}, but clean classes are whole numbers from 0 "
                    f"to {leaf.classes - 1}; correct the data or the number of classes."
                )

    def moved_out(self, before: Tensor, after: Tensor) -> str:
        """What to say of states that left the range of a leaf between ``before`` and ``after``, or nothing.

        States that were outside before, as a network's are by a little, may stay there.
        """
        earlier, later = (self.unpack(each.detach().contiguous()) for each in (before, after))
        for leaf in self.leaves:
            if leaf.range is None or not later[leaf.name].numel():
                continue
            old, new = ((float(each[leaf.name].min()), float(each[leaf.name].max())) for each in (earlier, later))
            low, high = min(leaf.range[0], old[0]), max(leaf.range[1], old[1])
            if new[0] < low - 1e-5 * (high - low) or new[1] > high + 1e-5 * (high - low):
                return (
                    f"moves states out of their range (leaf {leaf.name!r} now holds {new[0]:.4g} to {new[1]:.4g}, but "
                    f"its range is {leaf.range[0]:g} to {leaf.range[1]:g})"
                )
        return ""

    @cached_property
    def masked(self) -> bool:
        """Whether samples may lack nodes: then every batch comes with the condition ``mask`` ``[B, N]``."""
        return any(leaf.mask_axes for leaf in self.leaves)

    @cached_property
    def has_absent_entries(self) -> bool:
        """Whether some entries do not exist: masked ones, or a diagonal that is zero."""
        return self.masked or any(leaf.zero_diagonal for leaf in self.leaves)

    @cached_property
    def nodes(self) -> int:
        """N, the number of nodes that a mask speaks of; 0 if nothing is masked."""
        sizes = {leaf.shape[axis] for leaf in self.leaves for axis in leaf.mask_axes}
        if len(sizes) > 1:
            raise AnydiffError(f"the masked axes have sizes {sorted(sizes)}, but one mask fits one number of nodes.")
        return sizes.pop() if sizes else 0

    def present(self, mask: Tensor | None = None) -> Tensor:
        """1 where an entry may differ from zero, else 0 (diagonals, absent nodes): float32 ``[B or 1, *shape]``."""
        rows = 1 if mask is None else self.check_mask(mask).shape[0]
        device = None if mask is None else mask.device
        ones = {leaf.name: torch.ones(rows, *leaf.shape, device=device) for leaf in self.leaves}
        return self.pack({leaf.name: leaf.zero_out(ones[leaf.name], mask) for leaf in self.leaves})

    def mask_of(self, state: Tensor) -> Tensor:
        """Which nodes are there: those with an entry that is not zero, bool ``[B, N]``.

        Raises:
            AnydiffError: only categorical leaves could tell, whose class 0 is a class like any other.
        """
        masked = [leaf for leaf in self.leaves if leaf.mask_axes]
        if masked and all(leaf.categorical for leaf in masked):
            raise AnydiffError(
                f"which nodes exist cannot be told from classes (leaf {masked[0].name!r}), since class 0 is one of "
                "them; give the mask [B, N] beside the states."
            )
        found = torch.zeros(state.shape[0], self.nodes, dtype=torch.bool, device=state.device)
        for leaf, value in self._pairs(state):
            for axis in () if leaf.categorical else leaf.mask_axes:
                found |= (value != 0).movedim(axis + 1, 1).flatten(2).any(dim=2)
        return found

    def check_mask(self, mask: Tensor) -> Tensor:
        """``mask`` itself if it is ``[B, N]``; else an :class:`~anydiff.errors.AnydiffError`."""
        if mask.ndim != 2 or mask.shape[1] != self.nodes:
            raise AnydiffError(
                f"mask has shape {tuple(mask.shape)}, but must be [B, {self.nodes}]: which nodes of each sample exist."
            )
        return mask

    def expand(self, values: Mapping[str, float]) -> Tensor:
        """One float64 value per entry, ``[*self.shape]``, from one value per leaf (coefficients of a product path)."""
        parts = [torch.full((leaf.size,), float(values[leaf.name]), dtype=torch.float64) for leaf in self.leaves]
        return torch.cat(parts).reshape(self.shape)

    def _pairs(self, state: Tensor) -> Iterable[tuple[Leaf, Tensor]]:
        return zip(self.leaves, self.unpack(state.contiguous()).values(), strict=True)
