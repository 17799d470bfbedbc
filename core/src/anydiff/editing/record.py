"""The noises with which a plan gives samples that are already there: a noise source that is kept, edited and replayed.

A record is made by :func:`anydiff.editing.invert` and handed to ``sample(noise=record)``: sampling then begins at its
start and draws its draws, sample by sample, whatever the chunks. What the plan's result lacks of the data is the
record's residual, which :meth:`NoiseRecord.finished` adds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data.described import read_described
from anydiff.data.reading import Place, parse_json
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import write_atomic
from anydiff.paths.path import Path
from anydiff.solvers.executor import DrawsNoise
from anydiff.solvers.plan import Plan
from anydiff.solvers.start import Start
from anydiff.states import Conditioning
from anydiff.states.spec import StateSpec
from anydiff.states.streams import standard_normal

METADATA = "anydiff-noise-record"
FORMAT = 1


def plan_hash(plan: Plan) -> str:
    """sha256 (hex) of all that a plan computes."""
    found: str | None = vars(plan).get("_hash")
    if found is None:

        def stored(array: NDArray[np.float64]) -> str:
            whole = np.ascontiguousarray(array)
            return hashlib.sha256(f"{whole.shape}".encode() + whole.tobytes()).hexdigest()

        found = vars(plan)["_hash"] = hashlib.sha256(json.dumps(plan.body(stored)).encode()).hexdigest()
    return found


def fixed_order(spec: StateSpec) -> str:
    """Why the entries of states have no neighbours that could take their places; empty where they have."""
    if spec.masked or spec.has_absent_entries:
        return "its states are graphs, whose entries belong to nodes"
    if any(leaf.symmetric for leaf in spec.leaves):
        return "its states are symmetric"
    return "its states have several parts" if len(spec.leaves) > 1 else ""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoiseRecord(Start):
    """Start, draws and residual of samples under one plan.

    Attributes:
        samples: the index of each row.
        plan: hash of the plan (:func:`plan_hash`).
        time: of its first node.
        start: the states there, ``[n, *shape]``.
        draws: number of the draw -> ``[n, *shape]``, on the device of the start.
        clean: the samples, ``[n, *shape]``.
        residual: what the plan's result lacks of them, ``[n, *shape]``.
        fixed: why entries cannot be moved (a graph, say); empty where they can.
        facts: what else it belongs to, as texts: solver, trajectory, seed, model, condition, guidance.
    """

    samples: tuple[int, ...]
    plan: str
    time: float
    start: Tensor
    draws: Mapping[int, Tensor]
    clean: Tensor
    residual: Tensor
    fixed: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "draws", MappingProxyType(dict(self.draws)))
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))
        if len(self._places) < len(self.samples):
            raise AnydiffError("the samples of a noise record have an index twice; give each one of its own.")
        for name, value in self._tensors().items():
            if value.shape != self.start.shape or value.dtype != self.start.dtype or len(value) != len(self.samples):
                raise AnydiffError(
                    f"{name} of a noise record is {value.dtype} of shape {tuple(value.shape)}, but the start is "
                    f"{self.start.dtype} of {tuple(self.start.shape)} for {len(self.samples)} samples; give one row "
                    "per sample, of one type."
                )

    @cached_property
    def _places(self) -> dict[int, int]:
        return {sample: row for row, sample in enumerate(self.samples)}

    def __repr__(self) -> str:
        solver = self.facts.get("solver", "a plan")
        return f"the noise record of {len(self.samples)} samples under {solver}"

    def __len__(self) -> int:
        return len(self.samples)

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The recorded draw, see :class:`~anydiff.solvers.executor.DrawsNoise`.

        Raises:
            AnydiffError: a draw, sample or type that the record has not.
        """
        if draw not in self.draws:
            raise AnydiffError(
                f"the noise record has no draw {draw}; it was made for a plan of {len(self.draws)} draws: replay it "
                "with that plan."
            )
        return self._rows(self.draws[draw], samples, dtype, device)

    def states(
        self, path: Path, samples: Sequence[int], noise: DrawsNoise, condition: Conditioning, like: Tensor
    ) -> Tensor:
        """The recorded start."""
        if like.shape[1:] != self.start.shape[1:]:
            raise AnydiffError(
                f"the noise record is of states of shape {tuple(self.start.shape[1:])}, but these have "
                f"{tuple(like.shape[1:])}; invert such states."
            )
        return self._rows(self.start, samples, like.dtype, like.device).clone()

    def check_plan(self, plan: Plan) -> None:
        """Refuse a plan that is not the one of the inversion.

        Raises:
            AnydiffError: as said.
        """
        if plan_hash(plan) != self.plan:
            raise AnydiffError(
                f"{self!r} from t={self.time:g} is replayed by {plan.solver} from t={plan.nodes[0]:g} with "
                f"{plan.nfe} calls, which is another plan (solver, calls, grid, end or path differ); use that of the "
                "inversion, or invert anew."
            )

    def finished(self, states: Tensor, samples: Sequence[int] | None = None) -> Tensor:
        """``states`` of the plan with the residuals of their samples, by default of all in order."""
        residual = self._rows(self.residual, self.samples if samples is None else samples, states.dtype, states.device)
        return states + residual

    def selected(self, samples: Sequence[int]) -> NoiseRecord:
        """The record of these samples alone.

        Raises:
            AnydiffError: it has one of them not.
        """
        rows = self._places_of(samples)
        return self._each(lambda value: value[rows], samples=tuple(samples))

    def renumbered(self, samples: Sequence[int]) -> NoiseRecord:
        """The same rows under other indices of samples."""
        return replace(self, samples=tuple(samples))

    def roll(self, offset: int, axis: int, refill: int | None = None) -> NoiseRecord:
        """All noises moved by ``offset`` entries along ``axis`` of a sample, so that what they make moves with them.

        Args:
            offset: entries, to higher places where positive.
            axis: of one sample's shape.
            refill: seed of new noise for the entries that were carried around the border; by default they stay.

        Raises:
            AnydiffError: no such axis, an offset of the whole axis, or entries that have no neighbours.
        """
        shape = tuple(self.start.shape[1:])
        if self.fixed:
            raise AnydiffError(f"the noises cannot be rolled: {self.fixed}; roll states of one array.")
        if not -len(shape) <= axis < len(shape):
            raise AnydiffError(f"axis is {axis}, but a sample has the shape {shape}; name one of its axes.")
        size, dim = shape[axis], axis % len(shape) + 1
        if not abs(offset) < size:
            raise AnydiffError(f"offset is {offset}, but the axis has {size} entries; roll by fewer.")
        rolled = self._each(lambda value: value.roll(offset, dims=dim))
        if refill is None or not offset:
            return rolled
        edge = slice(0, offset) if offset > 0 else slice(offset, None)
        place = (slice(None),) * dim + (edge,)
        draws = {number: value.clone() for number, value in rolled.draws.items()}
        for number, value in draws.items():
            fresh = torch.from_numpy(standard_normal(refill, self.samples, number, "refill", shape)).to(value)
            value[place] = fresh[place]
        return replace(rolled, draws=draws)

    def tint(
        self, mask: Tensor, towards: float | Tensor, scale: float, between: tuple[float, float] = (0.3, 0.8)
    ) -> NoiseRecord:
        """Noises that lead the entries of ``mask`` to other values: z + scale mask (towards - x_0).

        Args:
            mask: which entries, bool, of the shape of a sample (or one per row).
            towards: the values there, in units of states.
            scale: how strongly, per draw.
            between: the draws that are changed, as shares of all in their order; the first decide the layout.

        Raises:
            AnydiffError: a mask of another shape, empty or full, or shares that are none.
        """
        chosen = self._mask(mask)
        first, last = between
        if not 0 <= first < last <= 1:
            raise AnydiffError(f"between is {between}, but must be two shares of the draws, 0 <= first < last <= 1.")
        change = scale * chosen * (torch.as_tensor(towards).to(self.start) - self.clean)
        numbers = sorted(self.draws)
        wanted = set(
            numbers[round(first * len(numbers)) : max(round(last * len(numbers)), round(first * len(numbers)) + 1)]
        )
        return replace(self, draws={m: value + change if m in wanted else value for m, value in self.draws.items()})

    def blend(self, other: NoiseRecord, share: float | Tensor) -> NoiseRecord:
        """Of every noise ``1 - share`` of this record and ``share`` of ``other``: a number in [0, 1], or a mask.

        Raises:
            AnydiffError: the records are of different plans, samples or shapes, or the share is none.
        """
        if other.plan != self.plan or other.samples != self.samples or other.start.shape != self.start.shape:
            raise AnydiffError(
                f"{self!r} and {other!r} are of different plans, samples or shapes; invert both by one plan, and give "
                "them the same indices (renumbered)."
            )
        if isinstance(share, Tensor):
            weight = self._mask(share)
        elif 0 <= share <= 1:
            weight = torch.tensor(share, dtype=self.start.dtype, device=self.start.device)
        else:
            raise AnydiffError(f"share is {share}, but must lie in [0, 1], or be a mask of the shape of a sample.")

        def mixed(a: Tensor, b: Tensor) -> Tensor:
            return a * (1 - weight) + b.to(a) * weight

        return replace(
            self,
            start=mixed(self.start, other.start),
            draws={m: mixed(value, other.draws[m]) for m, value in self.draws.items()},
            clean=mixed(self.clean, other.clean),
            residual=mixed(self.residual, other.residual),
        )

    def save(self, path: str | FilePath) -> None:
        """Write one safetensors file, atomically."""
        tensors = {name: value.cpu().contiguous() for name, value in self._tensors().items()}
        about = {"format": FORMAT, "samples": list(self.samples), "plan": self.plan, "time": self.time}
        text = json.dumps({**about, "fixed": self.fixed, "facts": dict(self.facts)})
        write_atomic(path, safetensors.torch.save(tensors, {METADATA: text}))

    @classmethod
    def load(cls, path: str | FilePath) -> NoiseRecord:
        """The record that :meth:`save` wrote.

        Raises:
            FileFormatError: the file is missing, truncated, or holds no record of this format.
        """
        text, tensors = read_described(path, "pt", METADATA, "noise record", "write one with NoiseRecord.save()")
        try:
            about = parse_json(text, Place(str(path)), "a noise record", "write one with NoiseRecord.save()")
            if about["format"] != FORMAT:
                raise FileFormatError(
                    f"{str(path)!r} is a noise record of format {about['format']!r}, but this anydiff reads {FORMAT}; "
                    "invert anew."
                )
            draws = {int(name.removeprefix("draw.")): each for name, each in tensors.items() if name[:5] == "draw."}
            return cls(
                samples=tuple(int(each) for each in about["samples"]),
                plan=str(about["plan"]),
                time=float(about["time"]),
                start=tensors["start"],
                draws=dict(sorted(draws.items())),
                clean=tensors["clean"],
                residual=tensors["residual"],
                fixed=str(about["fixed"]),
                facts={str(name): str(value) for name, value in about["facts"].items()},
            )
        except (AnydiffError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(
                f"{str(path)!r} is no whole noise record ({error!r}); write one with NoiseRecord.save()."
            ) from error

    def _tensors(self) -> dict[str, Tensor]:
        draws = {f"draw.{number}": value for number, value in self.draws.items()}
        return {"start": self.start, "clean": self.clean, "residual": self.residual, **draws}

    def _each(self, function: Callable[[Tensor], Tensor], **changes: Any) -> NoiseRecord:
        return replace(
            self,
            start=function(self.start),
            draws={number: function(value) for number, value in self.draws.items()},
            clean=function(self.clean),
            residual=function(self.residual),
            **changes,
        )

    def _places_of(self, samples: Sequence[int]) -> list[int]:
        absent = [sample for sample in samples if sample not in self._places]
        if absent:
            raise AnydiffError(
                f"{self!r} has no sample {absent[0]}; its samples are {self.samples[0]} to {self.samples[-1]}: ask for "
                "those, or invert that one too."
            )
        return [self._places[sample] for sample in samples]

    def _rows(self, value: Tensor, samples: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        rows = self._places_of(samples)
        if dtype != value.dtype:
            raise AnydiffError(
                f"{self!r} holds {value.dtype}, but is replayed in {dtype}, where other noises are needed; sample in "
                f"{value.dtype}, or invert in {dtype}."
            )
        whole = rows == list(range(len(self.samples)))
        return (value if whole else value[rows]).to(device)

    def _mask(self, mask: Tensor) -> Tensor:
        """The mask as numbers.

        Raises:
            AnydiffError: it has another shape, or chooses nothing or everything.
        """
        shape = tuple(self.start.shape)
        if tuple(mask.shape) not in (shape, shape[1:]):
            raise AnydiffError(
                f"mask has the shape {tuple(mask.shape)}, but a sample has {shape[1:]}; give one truth value per entry."
            )
        chosen = mask.bool()
        if not bool(chosen.any()) or bool(chosen.all()):
            word = "no entry" if not bool(chosen.any()) else "every entry"
            raise AnydiffError(f"the mask chooses {word}; choose some entries and leave others out.")
        return chosen.to(self.start)
