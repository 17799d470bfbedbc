"""How a solver writes a plan: ordinary arithmetic on linear forms, recorded as it runs.

``program.evaluate(x, node)`` gives a symbol for the prediction, and ``x = a * x + b * D`` builds a linear form. Nothing
is computed. A form becomes a register when a network call needs it (or at the end), so a row of the plan holds exactly
the terms of the paper's formula.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anydiff.denoisers.kinds import check_kinds, conversion
from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.paths.base import GaussianPath, LinearPath, gaussian
from anydiff.solvers.forms import LinearForm as LinearForm
from anydiff.solvers.forms import fitted as fitted
from anydiff.solvers.plan import Apply, Coefficient, Combine, Evaluate, Instruction, Noise, Plan
from anydiff.states.spec import Leaf


@dataclass(frozen=True)
class Node:
    """A time with the path's coefficients there, in float64.

    Leaves of a product path (:class:`~anydiff.paths.ProductPath`) share their times: where a solver chooses an inner
    time by its log-SNR, the one of the ``clock`` counts.
    """

    path: LinearPath
    t: float
    clock: GaussianPath | None = None

    @cached_property
    def gaussian(self) -> GaussianPath:
        """The path, if it has a log-SNR; without one a solver that asks for it is refused."""
        return gaussian(self.path, "this solver")

    @cached_property
    def alpha(self) -> float:
        """Signal coefficient α_t."""
        return self.gaussian.alpha(self.t)

    @cached_property
    def sigma(self) -> float:
        """Noise coefficient σ_t."""
        return self.gaussian.sigma(self.t)

    @cached_property
    def log_snr(self) -> float:
        """λ_t = log(α/σ); inf where σ = 0, -inf where α = 0."""
        return self.gaussian.log_snr(self.t)

    @cached_property
    def noise(self) -> float:
        """The coefficient of the noise in the state, on any path."""
        names = self.path.named("noise")
        return float(self.path.coefficients(torch.tensor(self.t, dtype=torch.float64))[names[0]]) if names else 0.0

    @cached_property
    def noise_level(self) -> float:
        """κ_t = σ/α; inf where α = 0."""
        return self.sigma / self.alpha if self.alpha > 0 else float("inf")

    def at(self, log_snr: float) -> Node:
        """The node of the same path at another log-SNR."""
        return Node(self.path, self.gaussian.time(log_snr), self.clock)

    @property
    def on_clock(self) -> Node:
        """The same time on the clock's path; the node itself if its path keeps its own time."""
        return self if self.clock is None else Node(self.clock, self.t)

    def moved(self, node: Node) -> Node:
        """The node of this path at the time of ``node``."""
        return node if self.clock is None else Node(self.path, node.t, self.clock)


class Program:
    """Records the instructions of one plan.

    On a path with known sources u_k the solver's states are y = x - Σ_k s_k u_k and its data predictions are
    D - Σ_k d_k u_k, in which the path is an ordinary one (:class:`~anydiff.paths.GaussianPath`); the registers hold x
    and D, and the plan has the u_k as constants. The network is asked for the data, and a noise prediction is made
    from it.

    For one leaf of a product path, ``clock`` is the path that keeps the time. What is recorded then depends on the
    solver's steps alone and not on the values of coefficients, so that the programs of all leaves can be laid on each
    other (:mod:`anydiff.solvers.product`): zero terms are kept, a form becomes a register even where it equals one,
    and the network is asked for the data.

    Attributes:
        path: the path that is travelled.
        begin: the time of the first node.
        budget: network calls the solver may spend, or None for full steps throughout.
        leaf: of a product path, the leaf that is compiled; its entries begin at ``offset`` of a sample's.
        values: constants that the plan brings itself.
        last: the last data prediction: the state, the prediction and their node (what the end rule extrapolates).
    """

    def __init__(
        self, path: LinearPath, budget: int | None = None, clock: GaussianPath | None = None, leaf: Leaf | None = None,
        offset: int = 0, begin: float | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.begin = path.t_start if begin is None else begin
        self.leaf, self.offset = leaf, offset
        self.values: dict[str, NDArray[np.float64]] = {}
        self.budget = budget
        self.clock = clock
        self.instructions: list[Instruction] = []
        self.constants: list[str] = []
        self._states = 0
        self._draws = 0
        self._evaluations = 0
        self.last: tuple[LinearForm, LinearForm, Node] | None = None
        for name in path.known:
            self.constant(name)

    def start(self) -> LinearForm:
        """The state at the first node: x_T, where the plan begins at the start of the path."""
        start = LinearForm.of(Plan.START)
        return start - self._shift(self.node(self.begin)) if self.path.known else start

    def node(self, t: float) -> Node:
        """A node at time ``t``, on the grid or off it."""
        return Node(self.path, t, self.clock)

    def evaluate(self, x: LinearForm, node: Node, kind: str = "data") -> LinearForm:
        """The prediction of ``kind`` at state ``x`` and ``node``: one network call."""
        if self.path.known:
            return self._evaluate_shifted(x, node, kind)
        state = self._register(x)
        self._evaluations += 1
        if self.clock is not None:
            return self._evaluate_leaf(state, node, kind)
        out = f"{'D' if kind == 'data' else 'M'}{self._evaluations}"
        self.instructions.append(Evaluate(out, state, node.t, kind))
        prediction = LinearForm.of(out)
        if kind == "data":
            self.last = (LinearForm({state: 1.0}), prediction, node)
        elif kind == "noise":
            data = (LinearForm({state: 1.0}) - node.sigma * prediction) / node.alpha if node.alpha > 0 else prediction
            self.last = (LinearForm({state: 1.0}), data, node)
        return prediction

    def evaluate_several(self, x: LinearForm, node: Node, kinds: Sequence[str]) -> list[LinearForm]:
        """Predictions of several kinds at state ``x`` and ``node`` from one network call, in the order of ``kinds``.

        On a path with known sources only kinds are given that no shift of the state changes: ``noise`` and ``score``,
        and ``residual`` and ``flow`` where the shift is the same at all times. On a leaf of a product path all follow
        from the data.

        Raises:
            AnydiffError: a kind that the path does not license, or that the shift of its states changes.
        """
        check_kinds(self.path, kinds, "the kind of prediction that this solver asks for")
        self._check_shifted(kinds)
        if self.clock is not None:
            return self._leaf_kinds(x, node, kinds)
        state = self._state(x, node)
        self._evaluations += 1
        outs = [f"{'D' if kind == 'data' else 'M'}{self._evaluations}{'abcd'[i]}" for i, kind in enumerate(kinds)]
        also = tuple(zip(outs[1:], kinds[1:], strict=True))
        self.instructions.append(Evaluate(outs[0], state, node.t, kinds[0], also))
        made = [LinearForm.of(out) for out in outs]
        if isinstance(self.path, GaussianPath) and node.alpha > 0 and node.sigma > 0:
            p, q = conversion(self.path, node.t, kinds[0], "data")
            y = LinearForm(x.terms)
            self.last = (y, p * y + q * made[0], node)
        elif isinstance(self.path, GaussianPath) and node.alpha == 0:
            self.last = (LinearForm(x.terms), LinearForm(x.terms), node)  # pure noise says nothing of the data
        return made

    def _check_shifted(self, kinds: Sequence[str]) -> None:
        if not self.path.known:
            return
        steady = all(gaussian(self.path, "this solver").centre.get(name) == 1.0 for name in self.path.known)
        allowed = ("noise", "score", *(("residual", "flow") if steady else ()))
        for kind in kinds:
            if kind not in allowed:
                raise NotApplicableError(
                    f"this solver asks for {kind} beside other predictions, which {self.path!r} with its known "
                    f"{self.path.known[0]} does not give; use a solver that asks for the data (dpm-solver++-2m)."
                )

    def _leaf_kinds(self, x: LinearForm, node: Node, kinds: Sequence[str]) -> list[LinearForm]:
        state = LinearForm.of(self._register(x))
        self._evaluations += 1
        data = self._evaluate_leaf(state.register or "", node, "data")
        factors = [conversion(node.gaussian, node.t, "data", kind) for kind in kinds]
        return [p * state + q * data for p, q in factors]

    def _evaluate_leaf(self, state: str, node: Node, kind: str) -> LinearForm:
        out = f"D{self._evaluations}"
        self.instructions.append(Evaluate(out, state, node.t))
        data = LinearForm.of(out)
        self.last = (LinearForm.of(state), data, node)
        if kind == "data":
            return data
        if kind == "noise":
            return (LinearForm.of(state) - node.alpha * data) / node.sigma
        raise NotApplicableError(f"a prediction of kind {kind!r} was asked on a product path; ask for data or noise.")

    def _state(self, y: LinearForm, node: Node) -> str:
        """The register of the state x that the solver's ``y`` stands for at ``node``."""
        if not self.path.known:
            return self._register(y)
        shift = self._shift(node)
        x = y + shift
        state = self._register(x)
        y.terms = (x - shift).terms
        return state

    def _shift(self, node: Node) -> LinearForm:
        """Σ_k s_k u_k at ``node``."""
        return _weighted(node.gaussian.shift(node.t))

    def _centre(self) -> LinearForm:
        """Σ_k d_k u_k."""
        path = gaussian(self.path, "this solver")
        return _weighted({name: path.centre.get(name, 0.0) for name in path.known})

    def _evaluate_shifted(self, y: LinearForm, node: Node, kind: str) -> LinearForm:
        state = self._state(y, node)
        self._evaluations += 1
        out = f"D{self._evaluations}"
        self.instructions.append(Evaluate(out, state, node.t, "data"))
        data = LinearForm({out: 1.0}) - self._centre()
        self.last = (LinearForm(y.terms), data, node)
        if kind == "data":
            return data
        if kind == "noise":
            return (y - node.alpha * data) / node.sigma
        raise NotApplicableError(f"a prediction of kind {kind!r} was asked on {self.path!r}; ask for data or noise.")

    def noise(self) -> LinearForm:
        """A fresh draw of unit noise; the form may be used in several rows, which then share the draw.

        Raises:
            AnydiffError: the path's noise is not Gaussian: a sum of two draws would be of another law.
        """
        if not self.path.noise_law.gaussian:
            raise NotApplicableError(
                f"this solver adds noise on the way, which {self.path!r} does not allow: its noise is "
                f"{self.path.noise_law.name}; use a solver of the ODE (heun, ddim or dpm-solver++-2m with eta = 0)."
            )
        self._draws += 1
        out = f"z{self._draws}"
        self.instructions.append(Noise(out, self._draws))
        return LinearForm.of(out)

    def constant(self, name: str, value: Any = None) -> LinearForm:
        """A tensor that is known before sampling: given to the executor under ``name``, or the plan's own ``value``.

        A ``value`` is an array that broadcasts to one sample (on a product path: to one leaf of it).

        Raises:
            AnydiffError: the name is taken by another value, or the array does not fit the leaf.
        """
        if value is None:
            if name not in self.constants:
                self.constants.append(name)
            return LinearForm.of(name)
        array = np.array(value, dtype=np.float64)
        if self.leaf is not None:
            array = fitted(array, self.leaf)
        if name in self.constants or not np.array_equal(self.values.setdefault(name, array), array):
            raise AnydiffError(f"the constant {name!r} has another value already; give this one a name of its own.")
        return LinearForm.of(name)

    def part(self, array: Any) -> NDArray[np.float64]:
        """What of an ``array`` over one whole sample belongs to the leaf that is compiled; all of it without leaves."""
        whole = np.asarray(array, dtype=np.float64)
        if self.leaf is None:
            return whole
        begin = self.offset
        return whole.reshape(-1)[begin : begin + self.leaf.size].reshape(self.leaf.shape)

    def keep(self, x: LinearForm) -> None:
        """Gives ``x`` a register of its own, where later rows start from a state that the network never sees.

        Without one the rows of n steps hold every prediction since the last such state: n² / 2 terms in all, and n
        tensors that stay in memory.
        """
        self._register(x)

    def apply(self, function: str, *inputs: LinearForm, node: Node, **options: Any) -> LinearForm:
        """The result of a named operation that is not linear."""
        registers = tuple(self._register(form) for form in inputs)
        self._states += 1
        out = f"x{self._states}"
        self.instructions.append(Apply(out, function, registers, node.t, options))
        return LinearForm.of(out)

    def finish(self, x: LinearForm, solver: str, nodes: tuple[float, ...], stopped: Node | None = None) -> Plan:
        """The plan whose result is ``x``: data, or the state at the node where it is ``stopped``."""
        if self.path.known:
            x = x + (self._centre() if stopped is None else self._shift(stopped))
        result = self._register(x)
        return Plan(
            solver, repr(self.path), nodes, tuple(self.instructions), result, tuple(self.constants), self.values
        )

    def _register(self, form: LinearForm) -> str:
        """The register that holds ``form``; a form that is not one register yet becomes one, and stands for it."""
        if self.clock is not None:
            return form.register or self._combine(form, form.terms)
        terms = {r: c for r, c in form.terms.items() if (c != 0.0 if isinstance(c, float) else np.any(c != 0.0))}
        terms = terms or dict(itertools.islice(form.terms.items(), 1))  # the zero state is still a state
        if len(terms) == 1:
            register, coefficient = next(iter(terms.items()))
            if isinstance(coefficient, float) and coefficient == 1.0:
                return register
        return self._combine(form, terms)

    def _combine(self, form: LinearForm, terms: Mapping[str, Coefficient]) -> str:
        self._states += 1
        out = f"x{self._states}"
        self.instructions.append(Combine(out, tuple((r, _plain(c)) for r, c in terms.items())))
        form.terms, form.register = {out: 1.0}, out
        return out


def _weighted(factors: Mapping[str, float]) -> LinearForm:
    """Σ factor · constant."""
    return LinearForm({name: factor for name, factor in factors.items() if factor != 0.0})


def _plain(coefficient: Coefficient) -> Coefficient:
    return coefficient if isinstance(coefficient, np.ndarray) and coefficient.ndim else float(coefficient)
