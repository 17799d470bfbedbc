"""A recording as every library of the field holds it, and back: samples, channels first, with their rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CHANNELS = 64
"""More channels than this are frames that were taken for channels."""
PCM16 = 32768
"""Steps of a 16-bit sample between 0 and 1."""


@dataclass(frozen=True, eq=False)
class Sound:
    """One recording.

    Attributes:
        samples: float32 ``[channels, frames]`` in [-1, 1].
        rate: frames per second.
        name: how its file is called, without ending; empty where it has none.

    Raises:
        AnydiffError: no samples, values that are not finite or beyond ±1, or a rate that is no whole number above 0.
    """

    samples: NDArray[np.float32]
    rate: int
    name: str = ""

    def __post_init__(self) -> None:
        samples = _floats(np.asarray(self.samples), self.what)
        if samples.ndim != 2:
            raise AnydiffError(
                f"{self.what} has samples of shape {samples.shape}, but a Sound holds [channels, frames]; use Sound.of."
            )
        if not samples.size:
            raise AnydiffError(f"{self.what} has no samples (shape {samples.shape}); give at least one frame.")
        if samples.shape[0] > MOST_CHANNELS:
            raise AnydiffError(
                f"{self.what} has {samples.shape[0]} channels and {samples.shape[1]} frames, so its axes are swapped; "
                "transpose the samples."
            )
        _check_values(samples, self.what)
        object.__setattr__(self, "samples", np.ascontiguousarray(samples, dtype=np.float32))
        object.__setattr__(self, "rate", check_rate(self.rate, self.what))

    @property
    def what(self) -> str:
        """The recording, for a sentence."""
        return f"the sound {self.name!r}" if self.name else "the sound"

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[0])

    @property
    def frames(self) -> int:
        """Number of samples per channel."""
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.rate

    @classmethod
    def of(cls, given: Any, rate: int | None = None) -> Sound:
        """A recording of what libraries hold.

        ========================================== =============================================
        ``(array [N] or [N, C], rate)``            soundfile: frames first
        ``(rate, array [N] or [N, C])``            SciPy: frames first
        ``(tensor [N] or [C, N], rate)``           torchaudio: channels first
        ``{"array": ..., "sampling_rate": ...}``   a dictionary, ``[N]`` or channels first
        ``array [N]``                              a mono vector, whose ``rate`` is given beside
        ========================================== =============================================

        Whole numbers are PCM by their type: int16 is divided by 32,768, int32 by 2³¹, and uint8 is 128 at rest.

        Raises:
            AnydiffError: none of these, or as :class:`Sound` says.
        """
        if isinstance(given, Sound):
            return given
        if isinstance(given, Mapping):
            missing = [key for key in ("array", "sampling_rate") if key not in given]
            if missing:
                raise AnydiffError(
                    f"the dictionary of a sound has no {missing[0]!r}; give 'array' and 'sampling_rate'."
                )
            return cls(_channels_first(_array(given["array"]), frames_first=False), given["sampling_rate"])
        if isinstance(given, tuple) and len(given) == 2:
            values, found = given if not _is_number(given[0]) else given[::-1]
            frames_first = not isinstance(values, Tensor)
            return cls(_channels_first(_array(values), frames_first), found)
        if rate is None:
            raise AnydiffError("the rate of a sound is missing; give (array, rate), or rate= beside a vector.")
        array = _array(given)
        if array.ndim != 1:
            raise AnydiffError(
                f"a sound was given as an array of shape {array.shape} alone, which may be frames or channels first; "
                "give (array [N, C], rate) or (tensor [C, N], rate)."
            )
        return cls(array[None], rate)

    def soundfile(self) -> tuple[NDArray[np.float32], int]:
        """``(array, rate)`` as ``soundfile.read`` gives it: ``[N]``, or ``[N, C]`` of several channels."""
        return (self.samples[0] if self.channels == 1 else self.samples.T), self.rate

    def scipy(self) -> tuple[int, NDArray[np.int16]]:
        """``(rate, int16 array)`` as ``scipy.io.wavfile.write`` takes it: ``[N]`` or ``[N, C]``."""
        values = self.pcm16()
        return self.rate, (values[0] if self.channels == 1 else values.T)

    def torchaudio(self) -> tuple[Tensor, int]:
        """``(tensor [C, N], rate)`` as ``torchaudio.load`` gives it."""
        return torch.from_numpy(self.samples.copy()), self.rate

    def dictionary(self) -> dict[str, Any]:
        """``{"array": ..., "sampling_rate": ...}``; the array is ``[N]``, or ``[C, N]`` of several channels."""
        return {"array": self.samples[0] if self.channels == 1 else self.samples, "sampling_rate": self.rate}

    def vector(self) -> NDArray[np.float32]:
        """The samples ``[N]`` of one channel.

        Raises:
            AnydiffError: several channels.
        """
        if self.channels != 1:
            raise AnydiffError(
                f"{self.what} has {self.channels} channels, but a vector holds one; use mono().vector()."
            )
        vector: NDArray[np.float32] = self.samples[0]
        return vector

    def pcm16(self) -> NDArray[np.int16]:
        """16-bit samples ``[C, N]``, rounded to the nearest; +1, which 16 bits do not hold, becomes 32,767."""
        return np.clip(np.rint(self.samples.astype(np.float64) * PCM16), -PCM16, PCM16 - 1).astype(np.int16)

    def mono(self) -> Sound:
        """The mean of its channels."""
        return self if self.channels == 1 else replace(self, samples=self.samples.mean(axis=0, keepdims=True))

    def resampled(self, rate: int) -> Sound:
        """The same at another rate, by soxr's high quality; overshoots beyond ±1 are cut, and counted in a warning."""
        wanted = check_rate(rate, self.what)
        if wanted == self.rate:
            return self
        import soxr

        values: NDArray[np.float32] = soxr.resample(self.samples.T, self.rate, wanted, quality="HQ").T
        return replace(self, samples=cut(values, f"{self.what} at {wanted} Hz"), rate=wanted)


def cut(values: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """``values`` in [-1, 1]; those beyond are cut, and counted in a warning."""
    beyond = int((np.abs(values) > 1).sum())
    if beyond:
        import warnings

        warnings.warn(f"{what} overshoots in {beyond} of {values.size} samples, which are cut to ±1.", stacklevel=3)
    return np.clip(values, -1.0, 1.0)


def check_rate(rate: Any, what: str) -> int:
    """A rate as a whole number above 0.

    Raises:
        AnydiffError: it is none.
    """
    if isinstance(rate, (bool, np.bool_)) or not _is_number(rate) or not float(rate).is_integer() or not 0 < rate < 1e7:
        raise AnydiffError(
            f"the rate of {what.removeprefix('the rate of ')} is {rate!r}, but must be frames per second, such as 8000."
        )
    return int(rate)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) or (
        isinstance(value, np.ndarray) and value.ndim == 0
    )


def _array(values: Any) -> NDArray[Any]:
    """Samples as an array, with their type."""
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError) as error:
        raise AnydiffError(f"a sound was given that is no array of numbers ({error}); give its samples.") from error
    if isinstance(values, (list, tuple)) and array.dtype.kind in "iu" and array.size and np.abs(array).max() <= 1:
        array = array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise AnydiffError(f"a sound was given as {type(values).__name__} of {array.dtype}, but samples are numbers.")
    return array


def _channels_first(array: NDArray[Any], frames_first: bool) -> NDArray[Any]:
    if array.ndim == 1:
        return array[None]
    if array.ndim != 2:
        raise AnydiffError(f"the samples of a sound have shape {array.shape}, but must have one axis or two.")
    return array.T if frames_first else array


_PCM: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "uint8": lambda values: (values.astype(np.float64) - 128) / 128,
    "int16": lambda values: values.astype(np.float64) / PCM16,
    "int32": lambda values: values.astype(np.float64) / 2.0**31,
}


def _floats(samples: NDArray[Any], what: str) -> NDArray[Any]:
    """PCM of a known number of bits as numbers in [-1, 1]; floats as they are."""
    if samples.dtype.kind == "f":
        return samples
    if samples.dtype.name not in _PCM:
        raise AnydiffError(
            f"{what} has samples of type {samples.dtype}, which does not say how many bits they have; convert them to "
            "int16, int32 or uint8 (PCM), or to float in [-1, 1]."
        )
    return _PCM[samples.dtype.name](samples)


def _check_values(samples: NDArray[Any], what: str) -> None:
    bad = ~np.isfinite(samples)
    if bad.any():
        channel, frame = (int(place) for place in np.argwhere(bad)[0])
        raise AnydiffError(
            f"{what} holds {samples[channel, frame]} at frame {frame} of channel {channel}; repair or cut it there."
        )
    largest = float(np.abs(samples).max())
    if largest > 1:
        meant = (
            ", which looks like 16-bit PCM: give it as int16" if largest > 16 else "; divide it by its largest value"
        )
        raise AnydiffError(f"{what} holds values up to {largest:.6g}, but samples lie in [-1, 1]{meant}.")
