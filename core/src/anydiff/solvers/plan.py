"""Plans: straight-line programs over registers, as plain data (DESIGN 4).

A plan is what a solver compiles to. It can be printed, stored as JSON, edited by a search and run by the executor. It
holds no tensor and no network: coefficients are float64 numbers (or float64 arrays that broadcast to one sample).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from anydiff.data.described import read_described
from anydiff.data.reading import Place, parse_json
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import write_atomic

Coefficient: TypeAlias = "float | NDArray[np.float64]"
FORMAT = 2
"""What is written. Format 1, in which a network call gives one prediction, is read as well."""
METADATA = "anydiff-plan"
"""The field of a file's metadata that holds the plan's text."""
WITH_VALUES = 3
"""The format of a plan that owns constants."""


@dataclass(frozen=True)
class Evaluate:
    """``out <- prediction of the given kind at (state, t)``: one network call.

    ``also`` names further registers and the kinds of prediction that the same call writes there.
    """

    out: str
    state: str
    t: float
    kind: str = "data"
    also: tuple[tuple[str, str], ...] = ()

    @property
    def outs(self) -> tuple[str, ...]:
        """Registers that are written."""
        return (self.out, *(register for register, _ in self.also))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of prediction, in the order of :attr:`outs`."""
        return (self.kind, *(kind for _, kind in self.also))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Registers that are read."""
        return (self.state,)


@dataclass(frozen=True)
class Combine:
    """``out <- Σ coefficient · register``."""

    out: str
    terms: tuple[tuple[str, Coefficient], ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Combine) or (self.out, self.inputs) != (other.out, other.inputs):
            return False
        return all(np.array_equal(a, b) for (_, a), (_, b) in zip(self.terms, other.terms, strict=True))

    def __hash__(self) -> int:
        return hash((self.out, self.inputs))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Registers that are read."""
        return tuple(register for register, _ in self.terms)


@dataclass(frozen=True)
class Noise:
    """``out <- draw number `draw` of the sample's own random stream`` (draw 0 is the prior)."""

    out: str
    draw: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Registers that are read: none."""
        return ()


@dataclass(frozen=True)
class Apply:
    """``out <- function(*inputs, t=t, **options)``: the open door for what is not linear.

    ``function`` is a name of the executor's table of operations, or one passed to it, so the plan stays data.
    """

    out: str
    function: str
    inputs: tuple[str, ...]
    t: float
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Transition:
    """``out <- classes drawn by rule`` from the classes in ``state`` and the prediction of classes in ``prediction``.

    The step of a categorical state: ``rule`` is a name of :data:`anydiff.solvers.transitions.RULES`, ``options`` are
    its numbers (probabilities of kernels, counts), and each entry takes one number in (0, 1) of draw ``draw`` of the
    sample's own random stream. Some rules read registers ``beside`` (numbers that say an order).
    """

    out: str
    rule: str
    state: str
    prediction: str
    draw: int
    options: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Registers that are read."""
        return (self.state, self.prediction, *self.beside)


Instruction: TypeAlias = Evaluate | Combine | Noise | Apply | Transition
_KINDS = {"evaluate": Evaluate, "combine": Combine, "noise": Noise, "apply": Apply, "transition": Transition}


@dataclass(frozen=True)
class Plan:
    """A compiled sampler.

    Attributes:
        solver: name and options, as text.
        path: the path it was compiled for, as text.
        nodes: the time grid, t_0 = T first.
        instructions: the program; register ``x0`` holds the start.
        result: the register that holds the sample at the end.
        constants: names of the registers that must be given before sampling (μ of a mean-reverting path, ...).
        values: registers that the plan brings itself: name -> float64 array that broadcasts to one sample.

    Raises:
        AnydiffError: a register is read before it is written, or written twice, a Combine has no or repeated terms, or
            a value is not finite.
    """

    solver: str
    path: str
    nodes: tuple[float, ...]
    instructions: tuple[Instruction, ...]
    result: str
    constants: tuple[str, ...] = ()
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, compare=False)

    START = "x0"

    def __post_init__(self) -> None:
        known = {self.START, *self.constants, *self.values}
        if len(known) < 1 + len(self.constants) + len(self.values):
            raise AnydiffError(f"constants {self.constants} and values {tuple(self.values)} share a name; rename one.")
        for name, value in self.values.items():
            if not np.isfinite(value).all():
                raise AnydiffError(f"the plan's constant {name!r} is not finite in all entries; make it anew.")
        for index, instruction in enumerate(self.instructions):
            inputs = instruction.inputs
            absent = [register for register in inputs if register not in known]
            if absent:
                raise AnydiffError(f"instruction {index} of the plan reads {absent[0]!r}, which nothing wrote before.")
            for out in written(instruction):
                if out in known:
                    raise AnydiffError(f"instruction {index} of the plan writes {out!r} again; use a new name.")
                known.add(out)
            if isinstance(instruction, Combine) and (not inputs or len(set(inputs)) < len(inputs)):
                raise AnydiffError(f"instruction {index} of the plan combines no register, or one twice; add them up.")
        if self.result not in known:
            raise AnydiffError(f"the plan's result is {self.result!r}, which nothing wrote.")

    @property
    def nfe(self) -> int:
        """Number of network calls, exactly."""
        return sum(isinstance(instruction, Evaluate) for instruction in self.instructions)

    @property
    def draws(self) -> int:
        """Number of noise draws after the prior's; 0 for a deterministic plan."""
        return sum(isinstance(instruction, Noise | Transition) for instruction in self.instructions)

    def last_uses(self) -> dict[str, int]:
        """For each register the index of the instruction that reads it last (its own index if none does)."""
        last: dict[str, int] = {}
        for index, instruction in enumerate(self.instructions):
            last.update(dict.fromkeys(written(instruction), index))
            for register in instruction.inputs:
                last[register] = index
        last[self.result] = len(self.instructions)
        return last

    def __str__(self) -> str:
        """The table: one line per instruction."""
        head = f"{self.solver} on {self.path}: {len(self.nodes) - 1} steps, {self.nfe} NFE, {self.draws} noise draws"
        return "\n".join([head, *self._lines()])

    def _lines(self) -> Iterator[str]:
        outs = [", ".join(written(instruction)) for instruction in self.instructions]
        width = max(map(len, outs))
        for number, (out, instruction) in enumerate(zip(outs, self.instructions, strict=True)):
            yield f"{number:4d}  {out:<{width}} <- {_describe(instruction)}"
        yield f"      result: {self.result}"

    def to_json(self) -> str:
        """The plan as JSON text; floats keep every bit."""
        return json.dumps(self.body(lambda array: array.tolist()), indent=1)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file (arrays as float64 tensors, the rest as JSON), atomically; every bit is kept."""
        arrays: dict[str, NDArray[np.float64]] = {}

        def stored(array: NDArray[np.float64]) -> dict[str, str]:
            key = f"array{len(arrays)}"
            arrays[key] = np.array(array, dtype=np.float64, order="C")  # whole: what is stored is not a view
            return {"array": key}

        text = json.dumps(self.body(stored))
        write_atomic(path, safetensors.numpy.save(arrays, {METADATA: text}))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """The plan that :meth:`save` wrote.

        Raises:
            FileFormatError: the file is missing, truncated, or holds no plan of this format.
        """
        text, arrays = read_described(path, "numpy", METADATA, "plan", "write one with Plan.save()")
        return cls.from_json(text, arrays)

    def body(self, stored: Callable[[NDArray[np.float64]], Any]) -> dict[str, Any]:
        """The plan as plain data, each array as ``stored`` gives it."""
        names = {cls: name for name, cls in _KINDS.items()}
        rows = [{"op": names[type(i)], **_jsonable(i, stored)} for i in self.instructions]
        values = {"values": {name: stored(value) for name, value in self.values.items()}} if self.values else {}
        return {
            "format": WITH_VALUES if self.values else FORMAT,
            "solver": self.solver,
            "path": self.path,
            "nodes": list(self.nodes),
            "result": self.result,
            "constants": list(self.constants),
            "instructions": rows,
            **values,
        }

    @classmethod
    def from_json(cls, text: str, arrays: Mapping[str, NDArray[np.float64]] | None = None) -> Plan:
        """The plan that :meth:`to_json` wrote; ``arrays`` are those that are stored beside the text.

        Raises:
            FileFormatError: the text is not JSON, or not a plan of this format.
        """
        try:
            body = parse_json(text, Place("the text"), "a plan", "write one with Plan.to_json()")
            if body["format"] not in range(1, WITH_VALUES + 1):
                raise FileFormatError(
                    f"the plan has format {body['format']!r}, but this anydiff reads 1 to {WITH_VALUES}; make it anew."
                )
            instructions = tuple(_parse(row, arrays or {}) for row in body["instructions"])
            values = {name: _array(value, arrays or {}) for name, value in body.get("values", {}).items()}
            return cls(
                solver=body["solver"],
                path=body["path"],
                nodes=tuple(body["nodes"]),
                instructions=instructions,
                result=body["result"],
                constants=tuple(body["constants"]),
                values=values,
            )
        except (AnydiffError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"the text is not a plan ({error!r}); write one with Plan.to_json().") from error


def written(instruction: Instruction) -> tuple[str, ...]:
    """The registers that an instruction writes."""
    return instruction.outs if isinstance(instruction, Evaluate) else (instruction.out,)


def _describe(instruction: Instruction) -> str:
    if isinstance(instruction, Evaluate):
        return f"{', '.join(instruction.kinds)}({instruction.state}, t={instruction.t:.6g})"
    if isinstance(instruction, Noise):
        return f"noise[{instruction.draw}]"
    if isinstance(instruction, Transition):
        numbers = ", ".join(f"{name}={_plain(value)}" for name, value in instruction.options.items())
        inputs = f"{instruction.state}, {instruction.prediction}, u[{instruction.draw}]"
        return f"{instruction.rule}({inputs}; {numbers})"
    if isinstance(instruction, Apply):
        return f"{instruction.function}({', '.join(instruction.inputs)}, t={instruction.t:.6g})"
    return " ".join(f"{_show(coefficient)}·{register}" for register, coefficient in instruction.terms)


def _show(coefficient: Coefficient) -> str:
    if isinstance(coefficient, np.ndarray):
        return f"[{coefficient.min():+.6g}..{coefficient.max():+.6g}]"
    return f"{coefficient:+.6g}"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        shown = [f"{each:.6g}" if isinstance(each, float) else str(each) for each in value[:6]]
        return f"[{' '.join([*shown, '...'] if len(value) > 6 else shown)}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _jsonable(instruction: Instruction, stored: Callable[[NDArray[np.float64]], Any]) -> dict[str, Any]:
    out = dict(vars(instruction))
    if isinstance(instruction, Evaluate):
        out["also"] = [list(pair) for pair in instruction.also]
        if not instruction.also:
            del out["also"]
    if isinstance(instruction, Combine):
        out["terms"] = [[r, stored(c) if isinstance(c, np.ndarray) else c] for r, c in instruction.terms]
    return out


def _array(value: Any, arrays: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """An array from numbers, or the stored one that is named."""
    return arrays[value["array"]] if isinstance(value, dict) else np.array(value, dtype=np.float64)


def _parse(row: dict[str, Any], arrays: Mapping[str, NDArray[np.float64]]) -> Instruction:
    row = dict(row)
    kind = _KINDS[row.pop("op")]
    if kind is Combine:
        terms = ((r, _array(c, arrays) if isinstance(c, list | dict) else float(c)) for r, c in row.pop("terms"))
        row["terms"] = tuple(terms)
    if kind is Evaluate:
        row["also"] = tuple((register, name) for register, name in row.get("also", ()))
    if kind is Apply:
        row["inputs"] = tuple(row["inputs"])
    if kind is Transition:
        row["beside"] = tuple(row.get("beside", ()))
    instruction: Instruction = kind(**row)
    return instruction
