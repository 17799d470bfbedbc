"""The one network call of a training step, shared by all terms of an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, batch_times, converted
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath, LinearPath, check_times, gaussian, linear
from anydiff.states import UNCONDITIONAL, Conditioning, Draws, StateSpec

if TYPE_CHECKING:
    from anydiff.objectives.coupled import Coupling

T = TypeVar("T")


@dataclass(frozen=True)
class Beside:
    """What a training gives a call beside its batch.

    Attributes:
        companions: frozen models by the names that the recipe gives them.
        coupling: knows the other micro batches and devices; None where the batch is the whole one.
    """

    companions: Mapping[str, Denoiser] = field(default_factory=dict)
    coupling: Coupling | None = None


ALONE = Beside()


class Call:
    """A batch, its noisy states and what the denoiser predicts of them, each computed when it is first asked for.

    Args:
        denoiser: what is trained.
        times: times of the path, ``[B]`` or ``[B, n]``, from the uniform numbers.
        clean: x0 ``[B, *shape]``.
        noise: ε ``[B, *shape]`` of unit scale.
        uniform: numbers in (0, 1), ``[B, *Objective.uniform_shape]``; become the time of the row, or its times.
        condition: what is given beside the states.
        draws: further random numbers of the rows; without them those of the positions 0 to B - 1.
        beside: companions, and what couples micro batches.

    Attributes:
        clean, noise: as given, zero where no entry is.
        entry_weights: weights of the entries in a mean over them, None for equal ones.
        path: the denoiser's.
        coupling: knows the other micro batches of a loss of the whole batch.
        uniform: as given.

    Raises:
        AnydiffError: ``uniform`` of a shape that does not fit.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        times: Callable[[Any, Tensor], Tensor],
        clean: Tensor,
        noise: Tensor,
        uniform: Tensor,
        condition: Conditioning = UNCONDITIONAL,
        draws: Draws | None = None,
        beside: Beside = ALONE,
    ) -> None:
        self.denoiser, self.path = denoiser, denoiser.path
        self.clean, self.noise, self.entry_weights = present_entries(denoiser.spec, clean, noise, condition)
        # A network with an order sees, beside the noised states, the clean ones of the turns before.
        self.condition = condition if denoiser.order is None else replace(condition, context=self.clean)
        if uniform.shape[:1] != clean.shape[:1]:
            raise AnydiffError(
                f"uniform has shape {tuple(uniform.shape)}, but must be ({clean.shape[0]},), or as many rows of the "
                "shape that the objective asks for."
            )
        self.draws = Draws(0, range(len(clean))) if draws is None else draws
        self.companions, self.coupling = beside.companions, beside.coupling
        self._times, self.uniform = times, uniform
        self._made: dict[str, Any] = {}

    def named(self, name: str) -> Call:
        """The same call for the term ``name``: what was computed is shared, its random numbers are its own."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.draws = self.draws.named(name)
        return other

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, computed for the first term that asks for ``name`` and kept for the others."""
        if name not in self._made:
            self._made[name] = make()
        found: T = self._made[name]
        return found

    @property
    def t(self) -> Tensor:
        """The time of each row, float64 ``[B]``, or of each of its positions, ``[B, n]``."""
        return self.once("t", self._checked_times)

    def _checked_times(self) -> Tensor:
        t = batch_times(self._times(self.path, self.uniform), self.clean)
        check_times(t, self.clean)
        return t

    @property
    def x(self) -> Tensor:
        """x_t ``[B, *shape]``."""
        return self.once("x", self._noised)

    @property
    def sources(self) -> dict[str, Tensor]:
        """Every source of the path by its name, each ``[B, *shape]``."""
        return self.once("sources", lambda: self.linear_path.drawn(self.clean, self.noise, self.condition))

    def _noised(self) -> Tensor:
        if isinstance(self.path, LinearPath):
            return self.path.mix(self.t, **self.sources)
        return self.path.noised(self.t, self.clean, self.noise, self.condition)

    @property
    def linear_path(self) -> LinearPath:
        """The path, where it is one of real numbers; an error says what needs that."""
        return linear(self.path, "the loss of this objective")

    @property
    def gaussian_path(self) -> GaussianPath:
        """The path, where it has a log-SNR; an error says what needs that."""
        return gaussian(self.path, "the loss of this objective")

    @property
    def native(self) -> Tensor:
        """The prediction ``[B, *shape]`` of the denoiser's own kind, the first where it makes several."""
        return self.natives[self.denoiser.native_kind]

    @property
    def natives(self) -> dict[PredictionKind, Tensor]:
        """The denoiser's own predictions by kind."""
        return {kind: self.exits[kind] for kind in self.denoiser.native_kinds}

    @property
    def exits(self) -> dict[str, Tensor]:
        """The same, and all other heads by their names: the network is called here, and nowhere else."""
        return self.once("exits", lambda: self.denoiser.exits(self.x, self.t, self.condition))

    def predict(self, kind: PredictionKind) -> Tensor:
        """The same prediction as one of ``kind``, ``[B, *shape]``; no further call."""
        return converted(self.denoiser, self.x, self.t, self.natives, kind, self.condition)

    def companion(self, name: str) -> Denoiser:
        """The frozen model that the recipe calls ``name``; it is asked with :meth:`condition_of` the same name.

        Raises:
            AnydiffError: there is none.
        """
        if name not in self.companions:
            raise AnydiffError(
                f"a term asks for the companion {name!r}, but there is {', '.join(self.companions) or 'none'}; name it "
                "in the recipe's companions."
            )
        return self.companions[name]

    def condition_of(self, name: str) -> Conditioning:
        """The condition as the companion ``name`` encodes it: what the trained network made of it is not for others."""
        plain = replace(self.condition, parts={})
        return self.once(f"condition of {name}", lambda: self.companion(name).encode_condition(plain))

    def predicted_by(self, name: str, kind: PredictionKind = "data") -> Tensor:
        """What the companion ``name`` predicts of the same states, as ``kind`` ``[B, *shape]``; called once."""
        asked, condition = self.companion(name), self.condition_of(name)
        made = self.once(f"natives of {name}", lambda: asked.natives(self.x, self.t, condition))
        return converted(asked, self.x, self.t, made, kind, condition)

    def head(self, name: str, asked_by: str, fix: str = "") -> Callable[..., Any]:
        """What the network offers beside its prediction under ``name``: ``network.heads[name]``.

        Args:
            name: of the head.
            asked_by: who asks, as a sentence begins: ``"the term 'inverse'"``.
            fix: what to do where there is none.

        Raises:
            AnydiffError: the network has no such head.
        """
        return network_head(self.denoiser, name, asked_by, fix)


def network_heads(denoiser: Denoiser) -> Mapping[str, Callable[..., Any]]:
    """What the denoiser's network offers beside its prediction, by name; nothing where it has no ``heads``."""
    heads: Mapping[str, Callable[..., Any]] | None = getattr(getattr(denoiser, "network", None), "heads", None)
    return {} if heads is None else heads


def network_head(denoiser: Denoiser, name: str, asked_by: str, fix: str = "") -> Callable[..., Any]:
    """The head called ``name`` of the denoiser's network; arguments and errors as for :meth:`Call.head`."""
    heads = network_heads(denoiser)
    if name not in heads:
        own = f"has the heads {', '.join(heads)}" if heads else "has no heads"
        raise AnydiffError(
            f"{asked_by} needs the head {name!r}, but the network {own}; "
            f"{fix or 'choose a network with it, or leave the term out'}."
        )
    return heads[name]


def present_entries(
    spec: StateSpec | None, clean: Tensor, noise: Tensor, condition: Conditioning
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(x0, ε, weights of the elements), zero where no entry is."""
    weights = condition.loss_weight
    if spec is None or not spec.has_absent_entries:
        return clean, noise, weights
    present = spec.present(condition.mask).to(clean.device)
    present = present.to(clean.dtype) if clean.is_floating_point() else present
    clean, noise = torch.where(present > 0, clean, 0), torch.where(present > 0, noise, 0)
    return clean, noise, (present if weights is None else present * weights).expand(clean.shape)
