"""The face of every denoiser: what predicts E[x_0 | x_t], in whatever kind of prediction is natural to it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from anydiff.denoisers.categorical import convert_classes
from anydiff.denoisers.kinds import PredictionKind, conversion, known_weights, solved
from anydiff.denoisers.past import Past
from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.paths.base import GaussianPath, LinearPath, gaussian, per_row
from anydiff.paths.categorical import CategoricalPath
from anydiff.paths.mixed import MixedPath
from anydiff.paths.path import Path
from anydiff.states import UNCONDITIONAL, Conditioning, Known, Order, StateSpec


class Denoiser(ABC):
    """Anything that predicts E[x_0 | x_t], in whatever kind is natural to it.

    A subclass gives ``path``, ``native_kind``, the ``spec`` of its states where it knows it, and :meth:`native`;
    calling the denoiser, or asking :meth:`predict` for another kind, converts with coefficients made in float64. A
    denoiser that makes several predictions in one call names their kinds in ``native_kinds`` and gives :meth:`natives`.
    """

    path: Path
    native_kind: PredictionKind = "data"
    sigma_data: float = 1.0
    spec: StateSpec | None = None

    @property
    def native_kinds(self) -> tuple[PredictionKind, ...]:
        """The kinds that one call predicts; ``native_kind`` is the first of them."""
        return (self.native_kind,)

    @property
    def time_free(self) -> bool:
        """Whether predictions of the native kind are the same at all times; a denoiser that does not say so is not."""
        return False

    @property
    def causal(self) -> bool:
        """Whether the prediction of a place sees the places before it alone; a denoiser that does not say so is not."""
        return False

    @property
    def gaussian_path(self) -> GaussianPath:
        """The path, where it is one of data, noise and known sources; an error says what needs that."""
        return gaussian(self.path, "what is asked of this denoiser")

    @abstractmethod
    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The native prediction ``[B, *shape]`` for the state ``x [B, *shape]`` at time ``t`` (a float, or ``[B]``).

        Of classes there are K numbers per entry, ``[B, *shape, K]``.
        """

    def __call__(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t] ``[B, *shape]``."""
        return self.predict(x, t, "data", condition)

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """The condition with all that does not depend on (x, t) computed: a sampler calls this once, then every step.

        What is made of the condition ``frames`` are its ``parts`` (:meth:`Conditioning.with_parts`), batch-first. They
        do not depend on where it is present, so that guidance can still repeat rows and hide it. A denoiser also
        accepts a condition that was not encoded; by default nothing is.
        """
        return condition

    @property
    def order(self) -> Order | None:
        """In which turns the positions of its states are drawn, by the outer loop; None where they are drawn at once.

        A denoiser with an order predicts positions given finished ones (:meth:`with_past`).
        """
        return None

    def with_past(self, past: Past, positions: Tensor, turn: int) -> Denoiser:
        """The denoiser of the positions of one turn given what is finished: its states are ``[B, m, *element]``.

        Args:
            past: of the rows that are drawn; a call of more rows holds copies of these, one after the other.
            positions: int64 ``[m]``, or ``[B, m]`` where rows are drawn in orders of their own.
            turn: the number of the turn.

        Raises:
            AnydiffError: the denoiser has no order.
        """
        raise NotApplicableError(
            f"{type(self).__name__} has no order of positions, so it is drawn at once; use a plan, or a network that "
            "has one."
        )

    def seen_clean(self, condition: Conditioning) -> Known | None:
        """Entries of the states ``[B, *shape]`` that it sees clean because ``condition`` gives them; None if none.

        A network that was trained with known entries in place, and puts them there by itself, draws the others from
        their exact law given these. By default a denoiser sees all of the state as it is.
        """
        return None

    def predict(
        self, x: Tensor, t: float | Tensor, kind: PredictionKind = "data", condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """The prediction of the given kind ``[B, *shape]``; arguments as for :meth:`native`."""
        if len(self.native_kinds) > 1:
            return self.predictions(x, t, (kind,), condition)[0]
        return convert(self, x, t, self.native(x, t, condition), self.native_kind, kind, condition)

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        """All native predictions of one call, by their kinds; arguments as for :meth:`native`."""
        return {self.native_kind: self.native(x, t, condition)}

    def exits(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> dict[str, Tensor]:
        """Everything that one call gives, by name: the native predictions, and whatever else is read off (heads)."""
        return {str(kind): value for kind, value in self.natives(x, t, condition).items()}

    def predictions(
        self, x: Tensor, t: float | Tensor, kinds: Sequence[PredictionKind], condition: Conditioning = UNCONDITIONAL
    ) -> tuple[Tensor, ...]:
        """Predictions of several kinds from one call, in the order of ``kinds``; arguments as for :meth:`native`."""
        made = self.natives(x, t, condition)
        return tuple(converted(self, x, t, made, kind, condition) for kind in kinds)


def convert(
    denoiser: Denoiser,
    x: Tensor,
    t: float | Tensor,
    value: Tensor,
    source: PredictionKind,
    target: PredictionKind,
    condition: Conditioning = UNCONDITIONAL,
) -> Tensor:
    """``value``, a prediction of kind ``source`` at the state ``x``, as kind ``target``.

    ``condition`` gives the known sources, where the path has some.
    """
    if source == target:
        return value
    path = denoiser.path
    if isinstance(path, CategoricalPath):
        return convert_classes(path, x, t, value, source, target)
    if isinstance(path, MixedPath):
        return _convert_mixed(denoiser, path, x, t, value, source, target)
    if not isinstance(path, GaussianPath):
        return converted(denoiser, x, t, {source: value}, target, condition)
    p, q = conversion(path, t, source, target, denoiser.sigma_data)
    if isinstance(p, Tensor) and isinstance(q, Tensor):
        result = per_row(p, x) * x + per_row(q, x) * value
    else:
        result = value * q + x * p if p else value * q
    if not path.known:
        return result
    given = path.given(condition, like=x)
    for name, weight in known_weights(path, t, source, target, denoiser.sigma_data).items():
        factor = per_row(weight, x) if isinstance(weight, Tensor) else weight
        result = result + given[name].to(x) * factor
    return result


def _convert_mixed(
    denoiser: Denoiser,
    path: MixedPath,
    x: Tensor,
    t: float | Tensor,
    value: Tensor,
    source: PredictionKind,
    target: PredictionKind,
) -> Tensor:
    """Continuous leaves each on its own path; logits of classes stay."""
    states, made = path.bound.unpack(x.contiguous()), path.bound.prediction.unpack(value.contiguous())
    for name, leaf in path.leaves:
        if isinstance(leaf, GaussianPath):
            p, q = conversion(leaf, t, source, target, denoiser.sigma_data)
            factors = (per_row(c, states[name]) if isinstance(c, Tensor) else c for c in (p, q))
            first, second = factors
            made[name] = first * states[name] + second * made[name]
    return path.bound.prediction.pack(made)


def converted(
    denoiser: Denoiser,
    x: Tensor,
    t: float | Tensor,
    made: Mapping[PredictionKind, Tensor],
    target: PredictionKind,
    condition: Conditioning = UNCONDITIONAL,
) -> Tensor:
    """The prediction of kind ``target`` from all that one call ``made``, by kind.

    On a path of data and noise the first kind alone gives the others; on another path all kinds count, and times are
    one number for the batch.
    """
    if target in made:
        return made[target]
    first = next(iter(made))
    path = denoiser.path
    if isinstance(path, GaussianPath | CategoricalPath | MixedPath):
        return convert(denoiser, x, t, made[first], first, target, condition)
    if not isinstance(path, LinearPath):
        raise AnydiffError(f"{path!r} says nothing of how one kind of prediction becomes another.")
    if isinstance(t, Tensor) and t.ndim:
        raise AnydiffError(
            f"a {target} prediction on {path!r} follows from {' and '.join(made)} for one time of the whole "
            "batch; give the time as a number."
        )
    p, q, known = solved(path, float(t), tuple(made), target, denoiser.sigma_data)
    result = x * p
    for weight, value in zip(q, made.values(), strict=True):
        result = result + value * weight
    given = path.given(condition, like=x)
    for name, weight in known.items():
        result = result + given[name].to(x) * weight
    return result


class FunctionDenoiser(Denoiser):
    """A plain function ``(x, t) -> prediction`` or ``(x, t, condition) -> prediction`` as a denoiser of that kind."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        path: Path,
        kind: PredictionKind = "data",
        sigma_data: float = 1.0,
    ) -> None:
        self.function = function
        self._asks = asks_condition(function)
        self.path = path
        self.native_kind = kind
        self.sigma_data = sigma_data

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Call the function."""
        return self.function(x, t, condition) if self._asks else self.function(x, t)


def asks_condition(function: Callable[..., Tensor]) -> bool:
    """Whether a function is one of ``(x, t, condition)``; else it is one of the state and the time alone.

    A third parameter counts where it is called ``condition`` or must be given; one that has a value of its own already
    (``lambda x, t, centre=centre: ...``) is not handed a condition.
    """
    try:
        named = list(inspect.signature(function).parameters.values())
    except ValueError:  # written in another language: nothing tells
        return True
    if any(each.kind is each.VAR_POSITIONAL for each in named):
        return True
    third = [each for each in named if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)][2:3]
    return any(each.name == "condition" or each.default is each.empty for each in third)


def as_denoiser(function: Callable[..., Tensor] | Denoiser, path: Path) -> Denoiser:
    """``function`` itself if it is a :class:`Denoiser`, else a :class:`FunctionDenoiser` that predicts the data."""
    return function if isinstance(function, Denoiser) else FunctionDenoiser(function, path)


def one_time(t: float | Tensor, denoiser: Denoiser) -> float | Tensor:
    """``t`` itself, if it is one time for each sample (a number or ``[B]``), all that most exact denoisers know of.

    Raises:
        AnydiffError: it is one per position.
    """
    if isinstance(t, Tensor) and t.ndim > 1:
        raise NotApplicableError(
            f"{type(denoiser).__name__} knows one time per sample, but t has shape {tuple(t.shape)}; give [B]."
        )
    return t


def batch_times(t: float | Tensor, x: Tensor) -> Tensor:
    """``t`` as a float64 tensor ``[B]`` on the device of ``x``."""
    if isinstance(t, Tensor):
        return t.to(dtype=torch.float64, device=x.device).expand(x.shape[0]) if t.ndim == 0 else t.to(x.device)
    return torch.full((x.shape[0],), t, dtype=torch.float64, device=x.device)
