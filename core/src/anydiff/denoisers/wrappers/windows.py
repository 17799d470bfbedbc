r"""Large states through a network made for small ones: overlapping windows, blended at every call.

A window of the network's own size slides over the state; its predictions are averaged with weights that sum to one at
every position. All kinds of prediction are linear in (x_t, D) with one pair of coefficients per time, so blending any
of them is blending D, and it happens at every step of the sampler, not on finished samples: no seams.

Weights are products of one profile per axis, and windows stand on a grid, so their sum is a product too and is known
beforehand: nothing but the result is accumulated, which lets :func:`sweep` write to an array larger than memory.

With ``margin`` at least the network's receptive radius, a window's inner edges, where the network sees padding instead
of the neighbours, count for nothing; then windows give what the network would give on the whole state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import WrappedDenoiser, Wrapper
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning

Blend = Literal["constant", "linear", "gaussian"]
BLENDS = ("constant", "linear", "gaussian")
GAUSSIAN_WIDTH = 0.125
"""Standard deviation of the Gaussian profile, in window sizes."""

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Windows(Wrapper):
    """Run the denoiser in overlapping windows over the last axes of the state, and blend its predictions.

    Conditions whose last axes are the state's are cut with it; all others are handed to every window whole. One call
    costs as many calls of the network as there are batches of windows.

    Attributes:
        window: positions per axis, the size the network was made for; these are the state's last axes.
        overlap: positions that neighbouring windows share at least; one number or one per axis.
        margin: positions at a window's inner edges whose predictions are not used; at most half of ``overlap``.
        blend: weight within a window: ``constant``, ``linear`` (a tent) or ``gaussian``.
        batch: windows per network call, for each row of the state.
    """

    window: tuple[int, ...]
    overlap: int | tuple[int, ...] = 0
    margin: int = 0
    blend: Blend = "gaussian"
    batch: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", tuple(natural_number("window", size) for size in self.window))
        overlap = (self.overlap,) * len(self.window) if isinstance(self.overlap, int) else tuple(self.overlap)
        if len(overlap) != len(self.window):
            raise AnydiffError(
                f"overlap is {overlap}, but window has {len(self.window)} axes; give one number per axis."
            )
        natural_number("margin", self.margin, minimum=0)
        natural_number("batch", self.batch)
        if self.blend not in BLENDS:
            raise UnknownNameError("blend", str(self.blend), BLENDS)
        for size, shared in zip(self.window, overlap, strict=True):
            if not 0 <= natural_number("overlap", shared, minimum=0) < size:
                raise AnydiffError(f"overlap is {shared}, but must be less than the window's {size} positions.")
            if 2 * self.margin > shared:
                raise AnydiffError(
                    f"margin is {self.margin}, so overlap must be at least {2 * self.margin}, but it is {shared}; else "
                    "some positions would be in no window's inner part."
                )
        object.__setattr__(self, "overlap", overlap)

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser of large states."""
        return _Large(denoiser, self)

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The blended prediction, made in the inner denoiser's own kind."""
        native = denoiser.native_kind
        return convert(denoiser, x, t, self._blended(denoiser, x, t, native, condition), native, kind, condition)

    def _blended(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        sizes = x.shape[-len(self.window) :]
        result = torch.zeros_like(x)
        places = list(self.places(sizes))
        rows = x.shape[0]
        for begin in range(0, len(places), self.batch):
            some = places[begin : begin + self.batch]
            stacked = torch.cat([_cut(x, where) for where, _ in some])
            times = t.repeat(len(some)) if isinstance(t, Tensor) and t.ndim else t
            cut = Conditioning.joined([_cut_condition(condition, where, sizes) for where, _ in some])
            predicted = denoiser.predict(stacked, times, kind, cut)
            for number, (where, weights) in enumerate(some):
                part = predicted[number * rows : (number + 1) * rows]
                _cut(result, where).add_(part * torch.from_numpy(weights).to(part))
        return result

    def places(self, sizes: Sequence[int]) -> Iterator[tuple[Slices, NDArray[np.float64]]]:
        """Each window of a state of ``sizes``: where it lies, and its weights ``[*window]``, which sum to one over all.

        Raises:
            AnydiffError: another number of axes, or an axis that is shorter than the window.
        """
        if len(sizes) != len(self.window) or any(s < w for s, w in zip(sizes, self.window, strict=True)):
            raise AnydiffError(
                f"the state's axes are {tuple(sizes)}, but windows of {self.window} need as many axes, none shorter; "
                "pad the state or choose another network."
            )
        axes = [self._axis(axis, size) for axis, size in enumerate(sizes)]
        for corner in itertools.product(*axes):
            weights = np.ones(())
            for _, profile in corner:
                weights = np.multiply.outer(weights, profile)
            yield tuple(slice(begin, begin + len(profile)) for begin, profile in corner), weights

    def _axis(self, axis: int, size: int) -> list[tuple[int, NDArray[np.float64]]]:
        """(first position, normalised weights) of the windows along one axis, evenly spread."""
        window, shared = self.window[axis], self.overlap[axis]  # type: ignore[index]
        count = 1 + math.ceil((size - window) / (window - shared))
        starts = [round(place) for place in np.linspace(0, size - window, count)]
        total = np.zeros(size)
        found = []
        for begin in starts:
            profile = _profile(window, self.blend)
            if self.margin and begin > 0:
                profile[: self.margin] = 0
            if self.margin and begin + window < size:
                profile[window - self.margin :] = 0
            total[begin : begin + window] += profile
            found.append((begin, profile))
        return [(begin, profile / total[begin : begin + window]) for begin, profile in found]


def _profile(window: int, blend: str) -> NDArray[np.float64]:
    """Positive weights ``[window]``, symmetric about the middle."""
    place = np.arange(window) - (window - 1) / 2
    weights: NDArray[np.float64] = np.ones(window)
    if blend == "linear":
        weights = 1 - np.abs(place) / ((window + 1) / 2)
    elif blend == "gaussian":
        # The floor keeps a state's outer edge, which one window alone may see, from a weight of zero over zero.
        weights = np.maximum(np.exp(-0.5 * (place / (GAUSSIAN_WIDTH * window)) ** 2), 1e-6)
    return weights


class _Large(WrappedDenoiser):
    """A denoiser of large states around one of windows."""

    def __init__(self, inner: Denoiser, wrapper: Wrapper) -> None:
        super().__init__(inner, wrapper)
        self.spec = None  # the inner one is that of a window, not of the whole

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """As it is: the inner denoiser encodes the condition of one window, not of the whole."""
        return condition


def _cut(value: Tensor, where: Slices) -> Tensor:
    """A view of one window along the last axes."""
    lead: Slices = (slice(None),) * (value.ndim - len(where))
    return value[lead + where]


def _cut_condition(condition: Conditioning, where: Slices, sizes: Sequence[int]) -> Conditioning:
    """What a window is told: everything that lies along the state's axes cut with it, all else whole."""
    cut = {name: _cut(value, where) if _spans(value, sizes) else value for name, value in condition.tensors()}
    return Conditioning.from_tensors(cut)


def _spans(value: Tensor, sizes: Sequence[int]) -> bool:
    """Whether a condition lies along the state's axes."""
    return value.ndim > len(sizes) and tuple(value.shape[-len(sizes) :]) == tuple(sizes)


def sweep(function: Callable[[NDArray[Any]], NDArray[Any]], source: Any, target: Any, windows: Windows) -> None:
    """``function`` in windows over an array of any size, blended into ``target``; one window in memory at a time.

    Args:
        function: from one window ``[..., *window]`` to values of the same last axes.
        source: anything that slices like a NumPy array: a memory map, a Zarr array, ``image.dataobj`` of nibabel.
        target: writable, sliced the same way, e.g. a memory map of float32; what it holds is replaced.
        windows: where, and how they are blended (``batch`` is not used).

    Raises:
        AnydiffError: the last axes of ``source`` and ``target`` differ.
    """
    axes = len(windows.window)
    sizes = tuple(source.shape[-axes:])
    if tuple(target.shape[-axes:]) != sizes:
        raise AnydiffError(f"source has the axes {sizes}, but target {tuple(target.shape[-axes:])}; make them equal.")
    cleared = np.zeros(sizes[0], dtype=bool)
    lead_in, lead_out = (slice(None),) * (len(source.shape) - axes), (slice(None),) * (len(target.shape) - axes)
    for where, weights in windows.places(sizes):
        # Windows come in the order of their first axis, so each slab is cleared when it is first reached.
        first = where[0]
        fresh = np.flatnonzero(~cleared[first]) + first.start
        if len(fresh):
            target[(*lead_out, slice(int(fresh[0]), int(fresh[-1]) + 1))] = 0
            cleared[first] = True
        made = function(np.asarray(source[(*lead_in, *where)]))
        target[(*lead_out, *where)] += made * weights.astype(made.dtype)
