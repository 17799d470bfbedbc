"""Plans on product paths: a solver compiles for each leaf alone, and the leaves' plans are laid on each other.

No solver knows of it. Each leaf's plan has the same instructions (:class:`~anydiff.solvers.program.Program` sees to
that), with coefficients of its own schedule; a coefficient of the joint plan has one value per leaf, spread over the
leaf's entries. A named operation acts on each leaf separately, with the leaf's own options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from anydiff.errors import AnydiffError
from anydiff.paths.product import ProductPath
from anydiff.solvers.plan import Apply, Coefficient, Combine, Evaluate, Instruction, Noise, Plan
from anydiff.solvers.program import fitted
from anydiff.states.spec import StateSpec

#: The operation that applies another one leaf by leaf (:mod:`anydiff.solvers.operations`).
LEAFWISE = "leafwise"


def merged(plans: Mapping[str, Plan], path: ProductPath) -> Plan:
    """One plan for the whole state from one plan per leaf.

    Args:
        plans: leaf name -> the plan of the solver on that leaf's path.
        path: the product path, bound to the state's spec.

    Raises:
        AnydiffError: the solver takes different steps on two leaves.
    """
    spec = path.bound
    columns = [plans[leaf.name].instructions for leaf in spec.leaves]
    if len({len(column) for column in columns}) > 1:
        raise _differ(plans, path)
    instructions: list[Instruction] = []
    alias: dict[str, str] = {}
    for rows in zip(*columns, strict=True):
        if not all(_same_step(rows[0], row) for row in rows):
            raise _differ(plans, path)
        joint = _renamed(_joint(rows, spec), alias)
        copied = _copied(joint)
        if copied is None:
            instructions.append(joint)
        else:
            alias[joint.out] = copied
    first = plans[spec.leaves[0].name]
    result = alias.get(first.result, first.result)
    own = {name: _coefficient([plans[leaf.name].values[name] for leaf in spec.leaves], spec) for name in first.values}
    values = {name: np.asarray(value) for name, value in own.items()}
    return Plan(first.solver, repr(path), first.nodes, tuple(instructions), result, values=values)


def _differ(plans: Mapping[str, Plan], path: ProductPath) -> AnydiffError:
    solver = next(iter(plans.values())).solver
    return AnydiffError(
        f"{solver} takes different steps on the leaves of {path!r}, so they cannot share their network calls; choose "
        "paths that all start from, or all stop short of, pure noise, or another solver."
    )


def _same_step(one: Instruction, other: Instruction) -> bool:
    if type(one) is not type(other) or one.out != other.out:
        return False
    if isinstance(one, Combine):
        return True
    if isinstance(one, Evaluate) and isinstance(other, Evaluate):
        return one.state == other.state and one.t == other.t
    return one.inputs == other.inputs


def _joint(rows: Sequence[Instruction], spec: StateSpec) -> Instruction:
    first = rows[0]
    if isinstance(first, Combine):
        registers = dict.fromkeys(register for row in rows for register in row.inputs)
        terms = ((r, _coefficient([dict(row.terms).get(r, 0.0) for row in rows], spec)) for r in registers)  # type: ignore[union-attr]
        kept = tuple((r, c) for r, c in terms if np.any(np.asarray(c) != 0.0))
        return Combine(first.out, kept or ((next(iter(registers)), 0.0),))
    if isinstance(first, Apply):
        options = [dict(row.options) for row in rows if isinstance(row, Apply)]
        sizes = [leaf.size for leaf in spec.leaves]
        return replace(
            first,
            function=LEAFWISE,
            options={"operation": first.function, "sizes": sizes, "options": options},
        )
    return first


def _coefficient(values: Sequence[Any], spec: StateSpec) -> Coefficient:
    """A number if the leaves agree, else one value per entry of the state."""
    if all(not isinstance(value, np.ndarray) and value == values[0] for value in values):
        return float(values[0])
    parts = [fitted(np.asarray(value), leaf).reshape(-1) for leaf, value in zip(spec.leaves, values, strict=True)]
    return np.concatenate(parts).reshape(spec.shape)


def _copied(instruction: Instruction) -> str | None:
    """The register that ``instruction`` only copies, or None."""
    if isinstance(instruction, Combine) and len(instruction.terms) == 1:
        register, coefficient = instruction.terms[0]
        if not isinstance(coefficient, np.ndarray) and coefficient == 1.0:
            return register
    return None


def _renamed(instruction: Instruction, alias: Mapping[str, str]) -> Instruction:
    """``instruction`` with every copied register replaced by what it copies."""
    if not any(register in alias for register in instruction.inputs) or isinstance(instruction, Noise):
        return instruction
    if isinstance(instruction, Evaluate):
        return replace(instruction, state=alias[instruction.state])
    if not isinstance(instruction, Combine | Apply):
        raise AnydiffError(f"the plan of a leaf holds {instruction!r}, which no product path carries.")
    if isinstance(instruction, Apply):
        return replace(instruction, inputs=tuple(alias.get(r, r) for r in instruction.inputs))
    terms: dict[str, Coefficient] = {}
    for register, coefficient in _renamed_terms(instruction, alias):
        terms[register] = terms[register] + coefficient if register in terms else coefficient
    return replace(instruction, terms=tuple(terms.items()))


def _renamed_terms(instruction: Combine, alias: Mapping[str, str]) -> Iterator[tuple[str, Coefficient]]:
    for register, coefficient in instruction.terms:
        yield alias.get(register, register), coefficient
