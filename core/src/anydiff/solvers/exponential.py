"""The exponential-integrator toolbox, in float64: what solvers in λ are written from.

With λ = log(α/σ) the probability-flow ODE has two exact solutions from s to t, h = λ_t - λ_s > 0, one for each kind of
prediction (Lu et al., DPM-Solver, NeurIPS 2022, and DPM-Solver++, arXiv 2211.01095):

    data :  x_t = (σ_t/σ_s) x_s + σ_t ∫ e^λ D(λ) dλ
    noise:  x_t = (α_t/α_s) x_s - α_t ∫ e^{-λ} ε(λ) dλ

Every method here replaces D or ε by its interpolating polynomial in a variable u (λ itself, the time t, the noise level
κ = e^{-λ} or the signal-to-noise ratio e^λ) through some nodes, and integrates that exactly: nodes of the past give
exponential Adams-Bashforth methods, the new node an Adams-Moulton corrector, nodes inside the step Runge-Kutta stages.

Two limits need no special case in a solver: a step that ends at clean data (λ_t = ∞) is of first order, and a step
from pure noise (λ_s = -∞, flow matching at t = 1) is integrated in e^λ, where D is smooth.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.solvers.program import LinearForm, Node, Program

#: Kinds of prediction an exponential integrator can integrate.
PREDICTIONS = ("data", "noise")
#: Interpolation variables: λ, t, κ = σ/α and 1/κ.
VARIABLES = ("log-snr", "time", "noise-level", "snr")


def phi(k: int, z: float) -> float:
    """φ_k(z) = Σ_j z^j/(j+k)! = ∫_0^1 e^{(1-θ)z} θ^{k-1}/(k-1)! dθ, to rounding for every z <= 700, -inf included.

    φ_0 = e^z and φ_{k+1} = (φ_k - 1/k!)/z. The recursion loses a digit for each factor 1/z, so the series stands below
    |z| = 1, where 20 terms suffice.
    """
    if math.isinf(z) and z < 0:
        return 0.0
    if k == 0:
        return math.exp(z)
    if abs(z) < 1:
        return sum(z**j / math.factorial(j + k) for j in range(20))
    value = math.expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / z
    return value


def step_size(s: Node, t: Node) -> float:
    """h = λ_t - λ_s > 0; inf if the step starts at pure noise or ends at clean data."""
    return t.log_snr - s.log_snr


def data_step(x: LinearForm, data: LinearForm, s: Node, t: Node) -> LinearForm:
    """The first-order step x_t = (σ_t/σ_s) x_s + α_t (1 - e^{-h}) D, exact if D is constant."""
    ratio = t.sigma / s.sigma
    # α_t (1 - e^{-h}) written so that h = inf gives α_t without a special case.
    return ratio * x + t.alpha * -math.expm1(-step_size(s, t)) * data


def noise_step(x: LinearForm, noise: LinearForm, s: Node, t: Node) -> LinearForm:
    """The first-order step x_t = (α_t/α_s) x_s - σ_t (e^h - 1) ε: the same map as :func:`data_step`."""
    ratio = t.alpha / s.alpha
    h = step_size(s, t)
    weight = -t.sigma * math.expm1(h) if math.isfinite(h) else -ratio * s.sigma
    return ratio * x + weight * noise


@dataclass(frozen=True)
class Known:
    """A prediction that was made: its node and its value, of the kind that the method integrates.

    At pure noise (α = 0) the noise prediction is the state itself and says nothing, so a network call there gives D:
    ``data``, which the first step uses, while ``value`` remains what interpolation needs.
    """

    node: Node
    value: LinearForm
    data: LinearForm | None = None


def predict(program: Program, x: LinearForm, node: Node, prediction: str) -> Known:
    """One network call: the prediction of the given kind at ``x``."""
    if prediction == "noise" and node.alpha == 0:
        data = program.evaluate(x, node)
        return Known(node, x / node.sigma, data)
    return Known(node, program.evaluate(x, node, prediction))


def exponential_step(
    x: LinearForm,
    s: Node,
    t: Node,
    known: Sequence[Known],
    prediction: str = "data",
    variable: str = "log-snr",
    stretch: float = 1.0,
) -> LinearForm:
    """x_t from x_s and the predictions ``known``, interpolated in ``variable``.

    Args:
        x: the state at ``s``.
        s: where the step starts.
        t: where it ends.
        known: the stencil; the order is its length. Its first entry is the prediction at ``s``.
        prediction: the kind of the stored predictions.
        variable: the interpolation variable.
        stretch: 1 + η of the reverse SDE whose noise the caller adds (data prediction only); 1 for the ODE.
    """
    first = known[0]
    if first.data is not None:
        return data_step(x, first.data, s, t)
    if s.alpha == 0 and stretch != 1.0:
        return t.alpha * first.value
    if t.sigma == 0 or (len(known) == 1 and stretch == 1.0):
        return data_step(x, first.value, s, t) if prediction == "data" else noise_step(x, first.value, s, t)
    ratio = transfer_ratio(s, t, prediction, stretch)
    form = ratio * x
    # A node of pure noise has no place on the axes of λ and κ: it leaves the stencil after its own step.
    if variable != "time" and s.alpha > 0:
        known = [entry for entry in known if entry.node.alpha > 0]
    factors = weights(s, t, [entry.node for entry in known], prediction, variable, stretch)
    for weight, entry in zip(factors, known, strict=True):
        form = form + weight * entry.value
    return form


def transfer_ratio(s: Node, t: Node, prediction: str, stretch: float = 1.0) -> float:
    """The coefficient of x_s: (σ_t/σ_s) e^{-ηh} in the data form, α_t/α_s in the noise form."""
    if prediction == "noise":
        return t.alpha / s.alpha
    return t.sigma / s.sigma * (1.0 if stretch == 1.0 else math.exp(-(stretch - 1) * step_size(s, t)))


def weights(
    s: Node,
    t: Node,
    nodes: Sequence[Node],
    prediction: str = "data",
    variable: str = "log-snr",
    stretch: float = 1.0,
) -> NDArray[np.float64]:
    """The weights w_j of the predictions at ``nodes`` in x_t = ratio · x_s + Σ w_j M_j.

    They integrate exactly every prediction that is a polynomial in ``variable`` of degree below the number of nodes.
    """
    if variable == "log-snr" and s.alpha > 0:
        h = step_size(s, t)
        theta = np.array([(node.log_snr - s.log_snr) / h for node in nodes])
        return _from_moments(theta, moments(s, t, len(nodes), prediction, stretch))
    if s.alpha == 0:
        variable = "snr"
    if variable == "snr" and prediction == "data" and stretch == 1.0:
        # The measure e^λ dλ is that of the variable itself: monomials, also from pure noise on.
        length = _value(variable, t) - _value(variable, s)
        theta = np.array([(_value(variable, node) - _value(variable, s)) / length for node in nodes])
        return _from_moments(theta, t.sigma * length / np.arange(1, len(nodes) + 1))
    return _by_quadrature(s, t, nodes, prediction, variable, stretch)


def moments(s: Node, t: Node, count: int, prediction: str = "data", stretch: float = 1.0) -> NDArray[np.float64]:
    """m_k for k < count: the integral of ((λ - λ_s)/h)^k with its measure and its factor σ_t or -α_t.

    data: α_t g k! φ_{k+1}(-g) with g = (1+η) h; noise: -σ_t h k! φ_{k+1}(h).
    """
    h = step_size(s, t)
    factor, z = (t.alpha * stretch * h, -stretch * h) if prediction == "data" else (-t.sigma * h, h)
    return np.array([factor * math.factorial(k) * phi(k + 1, z) for k in range(count)])


def inside(s: Node, t: Node, fraction: float) -> Node:
    """The node at ``fraction`` of the step: in the clock's λ, or in e^λ if the step starts at pure noise."""
    if s.clock is not None:
        return s.moved(inside(s.on_clock, t.on_clock, fraction))
    if math.isinf(s.log_snr):
        return s.at(t.log_snr + math.log(fraction))
    return s.at(s.log_snr + fraction * step_size(s, t))


def in_place(s: Node, t: Node, known: Sequence[Known]) -> bool:
    """Whether the predictions stand at equal parts of the step in λ; on a leaf that is not the clock they do not."""
    if s.clock is None:
        return True
    places = [step_size(s, entry.node) / step_size(s, t) for entry in known]
    return all(abs(place - stage / len(known)) < 1e-9 for stage, place in enumerate(places))


def checked_order(name: str, order: int, most: int) -> None:
    """Raise an :class:`~anydiff.errors.AnydiffError` unless ``order`` is a whole number from 1 to ``most``."""
    if natural_number(name, order) > most:
        raise AnydiffError(f"{name} is {order}, but must be a whole number from 1 to {most}.")


def checked_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise an :class:`~anydiff.errors.UnknownNameError` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise UnknownNameError(name, value, choices)


def _from_moments(theta: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The w with Σ_j w_j θ_j^k = m_k for every k."""
    return np.asarray(np.linalg.solve(np.vander(theta, increasing=True).T, values))


@functools.cache
def _gauss_legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """64 points on [0, 1]: a step of h = 18 in λ, the whole way from noise to data, is integrated to rounding."""
    points, factors = np.polynomial.legendre.leggauss(64)
    return (points + 1) / 2, factors / 2


def _value(variable: str, node: Node) -> float:
    if variable == "time":
        return node.t
    if variable == "log-snr":
        return node.log_snr
    if variable == "noise-level":
        return node.noise_level
    return node.alpha / node.sigma


def _values(variable: str, s: Node, log_snr: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variable at many λ of the path of ``s``."""
    if variable == "time":
        return np.asarray(s.gaussian.time(torch.from_numpy(log_snr)).numpy())
    return {"log-snr": log_snr, "noise-level": np.exp(-log_snr), "snr": np.exp(log_snr)}[variable]


def _by_quadrature(
    s: Node, t: Node, nodes: Sequence[Node], prediction: str, variable: str, stretch: float
) -> NDArray[np.float64]:
    """The same weights for any variable, by Gauss-Legendre in λ on Lagrange's polynomials (which sum to 1)."""
    points, factors = _gauss_legendre()
    h = step_size(s, t)
    if prediction == "data":
        measure = t.alpha * stretch * h * np.exp(stretch * h * (points - 1)) * factors
    else:
        measure = -t.sigma * h * np.exp(h * (1 - points)) * factors
    at: Any = _values(variable, s, s.log_snr + h * points)
    centres = [_value(variable, node) for node in nodes]
    result = []
    for j, own in enumerate(centres):
        basis = np.ones_like(at)
        for i, other in enumerate(centres):
            if i != j:
                basis = basis * ((at - other) / (own - other))
        result.append(float(np.sum(measure * basis)))
    return np.array(result)
