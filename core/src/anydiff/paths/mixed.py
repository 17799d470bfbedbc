"""A product of leaves of real numbers and of classes, on one shared time: atom positions and atom types, say.

The state is one float tensor, in which class numbers stand as they are (exact to 2^24 in float32), and a prediction is
packed by ``spec.prediction``: real numbers of one kind for the continuous leaves, logits of K classes for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.paths.categorical import CategoricalPath
from anydiff.paths.path import ClockedPath, Path
from anydiff.paths.product import KeptTime, LeafwiseNoise, ProductPath
from anydiff.states.conditions import UNCONDITIONAL, Conditioning
from anydiff.states.noise import NoiseLaw
from anydiff.states.spec import Leaf, StateSpec


class MixedNoise(LeafwiseNoise):
    """Each leaf by the law of its own path; float64, since classes are drawn by comparison."""

    dtype = torch.float64


@dataclass(frozen=True)
class MixedPath(KeptTime, ClockedPath):  # type: ignore[override]  # properties for fields
    """One path per leaf, of both kinds.

    Args:
        leaves: (name, path) of every leaf.
        clock: the continuous leaf that keeps the time; the first one by default.
        spec: the state; see :meth:`bind`.

    Raises:
        AnydiffError: leaves of one kind only, another clock, or paths that begin at different times.
    """

    leaves: tuple[tuple[str, Path], ...]
    clock: str = ""
    spec: StateSpec | None = field(default=None, repr=False)
    sources = {"x0": "clean", "noise": "noise"}  # noqa: RUF012 (read only, as in every path)

    def __post_init__(self) -> None:
        named = dict(self.leaves)
        numbers = [name for name, path in self.leaves if isinstance(path, GaussianPath) and not path.known]
        if not numbers or any(
            not isinstance(path, CategoricalPath) for name, path in self.leaves if name not in numbers
        ):
            raise AnydiffError(
                f"a mixed product takes leaves on paths of data and noise, and leaves on paths of classes, but was "
                f"given {', '.join(f'{name} on {path!r}' for name, path in self.leaves)}."
            )
        object.__setattr__(self, "clock", self.clock or numbers[0])
        if self.clock not in numbers:
            raise AnydiffError(f"clock is {self.clock!r}, but must be one of the continuous leaves {numbers}.")
        for name, path in self.leaves:
            if path.t_start != named[self.clock].t_start:
                raise AnydiffError(
                    f"leaf {name!r} starts at t={path.t_start:g}, but the clock {self.clock!r} at "
                    f"t={named[self.clock].t_start:g}; the paths of a product share their time."
                )

    @cached_property
    def keeper(self) -> GaussianPath:
        """The clock's path."""
        found = dict(self.leaves)[self.clock]
        assert isinstance(found, GaussianPath)
        return found

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]  # a field there
        """Those of the continuous leaves; of classes a prediction always holds logits."""
        return self.keeper.kinds

    @property
    def noise_law(self) -> NoiseLaw:  # type: ignore[override]  # a field there
        """Noise of every leaf by the law of its path."""
        return MixedNoise({name: path.noise_law for name, path in self.leaves})

    @property
    def bound(self) -> StateSpec:
        """The spec this path is bound to; an error without one."""
        if self.spec is None:
            raise AnydiffError("this product path is not bound to a state; use path.bind(spec).")
        return self.spec

    def bind(self, spec: StateSpec) -> MixedPath:
        """This path for states of ``spec``.

        Raises:
            AnydiffError: the leaves are not those of the spec, or of the other kind.
        """
        if {name for name, _ in self.leaves} != set(spec.names):
            raise AnydiffError(
                f"the product path has the leaves {sorted(name for name, _ in self.leaves)}, but the state has "
                f"{sorted(spec.names)}; give each leaf of the state a path."
            )
        bound = tuple((name, path.bind(StateSpec([spec.leaf(name)]))) for name, path in self.leaves)
        return replace(self, leaves=bound, spec=spec)

    @cached_property
    def numbers(self) -> GaussianPath:
        """The path of the continuous leaves alone: of one leaf its own, else a product."""
        found = [(name, path) for name, path in self.leaves if isinstance(path, GaussianPath)]
        if len(found) == 1:
            return found[0][1]
        leaves = [leaf for leaf in self.bound.leaves if not leaf.categorical]
        return ProductPath(tuple(found), self.clock).bind(StateSpec(leaves))

    @cached_property
    def classes(self) -> tuple[tuple[Leaf, CategoricalPath], ...]:
        """Every categorical leaf with its path, in the order of the state."""
        named = dict(self.leaves)
        pairs = ((leaf, named[leaf.name]) for leaf in self.bound.leaves)
        return tuple((leaf, path) for leaf, path in pairs if isinstance(path, CategoricalPath))

    def prediction_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Packed by ``spec.prediction``."""
        return (shape[0], *self.bound.prediction.shape)

    def _log_snr(self, t: Tensor) -> Tensor:
        return self.keeper.log_snr(t)

    def _time(self, log_snr: Tensor) -> Tensor:
        return self.keeper.time(log_snr)

    def seen(self, x: Tensor, t: Tensor, sigma_data: float) -> Tensor:
        """Continuous leaves scaled as on their own paths, classes as they are."""
        views, named = self.bound.unpack(x.contiguous()), dict(self.leaves)
        return self.bound.pack({name: named[name].seen(view, t, sigma_data) for name, view in views.items()})

    def noised(self, t: Tensor, clean: Tensor, noise: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Each leaf on its own path; see :meth:`Path.noised`."""
        return self._each(clean, noise, lambda path, one, other: path.noised(t, one, other, condition))

    def first(self, noise: Tensor, condition: Conditioning) -> Tensor:
        """Each leaf's prior."""
        return self._each(noise, noise, lambda path, _, other: path.first(other, condition))

    def _each(self, one: Tensor, other: Tensor, function: Any) -> Tensor:
        first, second = (self.bound.unpack(value.contiguous()) for value in (one, other))
        made: Mapping[str, Tensor] = {
            name: function(path, first[name], second[name].to(first[name]) if not isinstance(path, CategoricalPath)
                           else second[name]).to(one.dtype)
            for name, path in self.leaves
        }  # fmt: skip
        return self.bound.pack(made)


def product(leaves: Mapping[str, Any], clock: str = "") -> Path:
    """A product path from options; of one leaf alone it is that leaf's path, of leaves of both kinds a mixed one.

    Args:
        leaves: leaf name -> a path's name, or its name and options: ``{"nodes": "vp-linear", "edges": {"name": "ve",
            "options": {"sigma_max": 1.0}}}``.
        clock: the leaf that keeps the time; the first by default.
    """
    from anydiff.registry import registry

    built: list[tuple[str, Any]] = []
    for name, part in leaves.items():
        part = {"name": part} if isinstance(part, str) else part
        if not (isinstance(part, Mapping) and "name" in part and set(part) <= {"name", "options"}):
            raise AnydiffError(f"leaves.{name} is {part!r}, but must be a path's name, or its name and options.")
        built.append((name, registry().build("paths", part["name"], **part.get("options", {}))))
    if len(built) == 1:
        return cast(Path, built[0][1])
    if any(isinstance(path, CategoricalPath) for _, path in built):
        return MixedPath(tuple(built), clock)
    return ProductPath(tuple(built), clock)
