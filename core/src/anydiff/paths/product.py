"""A product path: each leaf of the state has its own schedule and its own noise law, on one shared time.

With leaves l (node features and adjacency, say) the forward process is

    x_t^l = α_t^l x_0^l + σ_t^l ε^l,

independent given x_0; one network sees all leaves at once, so the reverse processes are coupled (Jo et al., "Score-
based generative modeling of graphs via the system of stochastic differential equations", ICML 2022). α_t and σ_t are
then one value per entry of the state. Whatever needs one number for a time (time grids, the log-SNR that a network is
told, laws of training times, the place of inner nodes of a step) takes it from one leaf, the *clock*.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import Time
from anydiff.states.noise import NoiseLaw
from anydiff.states.spec import Leaf, StateSpec

_PER_ENTRY = ("_alpha", "_sigma", "_d_alpha", "_d_sigma")


class LeafwiseNoise(NoiseLaw):
    """Each leaf by the law of its own path."""

    name = "leafwise"

    def __init__(self, laws: Mapping[str, NoiseLaw]) -> None:
        self.laws = dict(laws)
        self.gaussian = all(law.gaussian for law in self.laws.values())

    def draw(self, leaf: Leaf, seed: int, samples: Any, draw: int) -> NDArray[np.float64]:
        """See :meth:`NoiseLaw.draw`."""
        return self.laws[leaf.name].draw(leaf, seed, samples, draw)


class KeptTime:
    """The time of a path of several leaves: that of the leaf which is its clock."""

    @property
    @abstractmethod
    def keeper(self) -> GaussianPath:
        """The clock's path."""

    @property
    def t_start(self) -> float:
        """The time of pure noise, which all leaves share."""
        return self.keeper.t_start

    @property
    def t_end(self) -> float:
        """The time of clean data."""
        return self.keeper.t_end

    @property
    def default_grid(self) -> str:
        """The name of the grid that the clock takes when none is named."""
        return self.keeper.default_grid


@dataclass(frozen=True)
class ProductPath(KeptTime, GaussianPath):  # type: ignore[override]  # properties for fields
    """One path per leaf.

    ``alpha(t)`` and its like give one value per entry: ``[1, *shape]`` for a number t, ``[B, *shape]`` for times
    ``[B]``. ``log_snr(t)`` and ``time(λ)`` are the clock's. Bind it to the state's spec before use.

    Args:
        leaves: (name, path) of every leaf.
        clock: the leaf that keeps the time; the first by default.
        spec: the state; see :meth:`bind`.
    """

    leaves: tuple[tuple[str, GaussianPath], ...]
    clock: str = ""
    spec: StateSpec | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.leaves:
            raise AnydiffError("a product path needs one path per leaf of the state, but leaves is empty.")
        names = [name for name, _ in self.leaves]
        if self.clock and self.clock not in names:
            raise UnknownNameError("leaf", self.clock, names)
        object.__setattr__(self, "clock", self.clock or names[0])
        first = self.keeper
        for name, path in self.leaves:
            if tuple(path.sources.values()) != ("clean", "noise"):
                raise AnydiffError(f"leaf {name!r} has the path {path!r}, but a product takes paths of x0 and noise.")
            if path.t_start != first.t_start:
                raise AnydiffError(
                    f"leaf {name!r} starts at t={path.t_start:g}, but the clock {self.clock!r} at t={first.t_start:g}; "
                    "the paths of a product share their time, so give them one t_start."
                )

    @property
    def keeper(self) -> GaussianPath:
        """The clock's path."""
        return dict(self.leaves)[self.clock]

    @property
    def noise_law(self) -> NoiseLaw:  # type: ignore[override]  # a field there
        """Noise of every leaf by the law of its path."""
        return LeafwiseNoise({name: path.noise_law for name, path in self.leaves})

    def bind(self, spec: StateSpec) -> ProductPath:
        """This path for states of ``spec``.

        Raises:
            AnydiffError: the leaves of the path are not those of the spec.
        """
        names = {name for name, _ in self.leaves}
        if names != set(spec.names):
            raise AnydiffError(
                f"the product path has the leaves {sorted(names)}, but the state has {sorted(spec.names)}; give each "
                "leaf of the state a path."
            )
        return replace(self, spec=spec)

    def derivatives(self, t: Tensor) -> dict[str, Tensor]:
        """dα/dt and dσ/dt, one value per entry."""
        return {"x0": self.d_alpha(t), "noise": self.d_sigma(t)}

    def prior(self, noise: Tensor) -> Tensor:
        """x_T from noise of unit scale, each leaf by its own path (which warns where it does not reach its prior)."""
        views = self.bound.unpack(noise.contiguous())
        return self.bound.pack({name: path.prior(views[name]) for name, path in self.leaves})

    @property
    def bound(self) -> StateSpec:
        """The spec this path is bound to; an error without one."""
        if self.spec is None:
            raise AnydiffError("this product path is not bound to a state; use path.bind(spec).")
        return self.spec

    def _evaluate(self, name: str, argument: Time) -> Time:
        if name not in _PER_ENTRY:
            return self.keeper._evaluate(name, argument)
        times = torch.as_tensor(argument, dtype=torch.float64)
        if times.ndim > 1:
            raise AnydiffError(
                f"times have shape {tuple(times.shape)}, but on a product path there is one time per sample."
            )
        values = {leaf: getattr(path, name)(times.reshape(-1, 1)) for leaf, path in self.leaves}
        return cast(Time, self._spread(values))

    def _spread(self, values: Mapping[str, Tensor]) -> Tensor:
        """One column ``[B, 1]`` per leaf as one value per entry ``[B, *shape]``."""
        spec = self.bound
        parts = [values[leaf.name].expand(-1, leaf.size) for leaf in spec.leaves]
        return torch.cat(parts, dim=1).reshape(-1, *spec.shape)

    def _alpha(self, t: Tensor) -> Tensor:
        return self._evaluate("_alpha", t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self._evaluate("_sigma", t)
