"""The one face of sampling: a request says what is wanted, a sampler draws it chunk by chunk.

What every sampler needs is written once, in :meth:`Sampler.chunks`: the samples' own streams, the prior, guidance, the
rows of the condition (encoded once per chunk), and known entries in the finished samples. A sampler says only how one
chunk travels from its first states to the samples (:meth:`Sampler.draw`): by a plan, by an adaptive step, by an
optimiser, element by element.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers.base import Wrapper, wrapped
from anydiff.denoisers.wrappers.known import KnownEntries, require_finite, warn_approximate, with_known_entries
from anydiff.denoisers.wrappers.present import PresentNodes
from anydiff.denoisers.wrappers.sharpened import Sharpened
from anydiff.errors import AnydiffError, natural_number
from anydiff.paths.base import GaussianPath
from anydiff.paths.categorical import CategoricalPath
from anydiff.paths.path import Path
from anydiff.solvers.executor import Callback, DrawsNoise, Operation, Step
from anydiff.solvers.start import Start
from anydiff.states.conditions import UNCONDITIONAL, Conditioning, check_rows
from anydiff.states.noise import NoiseSource
from anydiff.states.spec import StateSpec


@dataclass(frozen=True)
class SampleRequest:
    """What is to be drawn, whoever draws it.

    Sample k of seed s depends on (s, k) alone: not on ``batch_size``, nor on which other samples are drawn.

    Attributes:
        count: how many samples (indices 0 .. count-1), or the indices themselves.
        seed: whole number in [0, 2^64).
        guidance: one or several guidances or other wrappers, the first innermost.
        condition: what is given, one row per sample (or per case); encoded once per chunk, not once per network call. A
            dictionary of tensors is what networks are told, by the names of conditions.
        cases: several samples share a condition: it has one row per case, and row i of the samples belongs to case
            i % cases. A case is encoded once per chunk however many samples of it are drawn.
        start: states to begin with ``[count, *shape]``, or one ``[1, *shape]`` for all samples, instead of draws from
            the prior; or a :class:`~anydiff.solvers.Start`, which makes them from the samples' own streams.
        noise: what every draw is taken from, in place of the streams of ``seed``: asked for draw m of the samples by
            their indices (draw 0 is the prior's). A source that is a :class:`~anydiff.solvers.Start` too says where
            sampling begins, unless ``start`` does.
        operations: functions that the plan's Apply instructions name, beside (or in place of) registered ones.
        temperature: factor on every noise draw, the prior's included; of classes what divides the logits of x_0.
        batch_size: rows per network call.
        dtype: floating-point type of the state; None for the sampler's own.
        device: where to sample.
        callbacks: called after each network call with a :class:`~anydiff.solvers.Step`.
    """

    count: int | Sequence[int]
    seed: int = 0
    guidance: Wrapper | Sequence[Wrapper] | None = None
    condition: Conditioning | Mapping[str, Tensor] = UNCONDITIONAL
    cases: int | None = None
    start: Tensor | Start | None = None
    noise: DrawsNoise | None = None
    operations: Mapping[str, Operation] = field(default_factory=dict)
    temperature: float = 1.0
    batch_size: int = 256
    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"
    callbacks: Sequence[Callback] = ()

    @property
    def begins(self) -> Tensor | Start | None:
        """Where sampling begins: what ``start`` says, else what the noise says; None for the prior."""
        return self.noise if self.start is None and isinstance(self.noise, Start) else self.start


@dataclass(frozen=True)
class Chunk:
    """The rows of one network call on their way through a sampler.

    Attributes:
        denoiser: guided.
        first: states to begin with ``[B, *shape]``.
        samples: the index of each row in its sample set.
        noise: the rows' own streams.
        condition: B rows, encoded by the denoiser, with their indices.
        rows: the places of the rows in the request.
        callbacks: called after each network call.
        request: what the chunk is a part of.
        operations: what the request gives for a plan's Apply instructions.
    """

    denoiser: Denoiser
    first: Tensor
    samples: Sequence[int]
    noise: DrawsNoise
    condition: Conditioning
    rows: slice
    callbacks: Sequence[Callback]
    request: SampleRequest
    operations: Mapping[str, Operation] = field(default_factory=dict)

    def tell(self, call: int, t: float, state: Tensor, prediction: Tensor, kind: str, total: int = 0) -> None:
        """Tell the callbacks of a network call; a sampler that chooses its own steps does not know their total."""
        for callback in self.callbacks:
            callback(Step(call, total, t, state, prediction, kind))

    @property
    def path(self) -> GaussianPath:
        """The path of the denoiser, for samplers that choose their times by its log-SNR.

        Raises:
            AnydiffError: the path has none.
        """
        return self.denoiser.gaussian_path

    def shifted(self) -> Shifted | None:
        """The path's known sources and how they shift the states; None where the path has none.

        Raises:
            AnydiffError: the path needs one and it is not given.
        """
        known = self.path.given(self.condition, like=self.first)
        return Shifted(self.path, known) if known else None


class Sampler(ABC):
    """From a request and a denoiser to samples. A subclass gives :meth:`draw`; all else is common.

    Attributes:
        dtype: the floating-point type of its states unless a request says otherwise.
        operates: whether it runs the operations of a request; one that does not refuses them.
        nfe: network calls of a sample: of a plan; or of the last solve, 0 before it, where steps are chosen on the way.
    """

    dtype: ClassVar[torch.dtype] = torch.float32
    operates: ClassVar[bool] = False
    nfe: int

    @abstractmethod
    def draw(self, chunk: Chunk) -> Tensor:
        """The samples ``[B, *shape]`` of one chunk; row b depends on row b alone."""

    def check(self, request: SampleRequest, denoiser: Denoiser) -> None:
        """Refuse, before anything is drawn, what this sampler cannot do; by default nothing."""
        return

    def warn(self, denoiser: Denoiser, layers: Sequence[Wrapper], condition: Conditioning) -> None:
        """Warn of what the samples will not be; by default where known entries make their law an approximation."""
        warn_approximate(denoiser, layers, condition)

    def inner(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser as this sampler calls it, innermost of all guidance; by default as it is."""
        return denoiser

    def sample(self, request: SampleRequest, denoiser: Denoiser, spec: StateSpec | Sequence[int]) -> Tensor:
        """Samples ``[count, *spec.shape]``.

        Args:
            request: how many, from which streams, under which conditions.
            denoiser: E[x_0 | x_t], trained or exact.
            spec: what one sample is, or simply its shape.

        Raises:
            AnydiffError: a count, seed, shape or budget is wrong.
            NonFiniteError: the denoiser returned a NaN or an infinity.
        """
        spec = spec if isinstance(spec, StateSpec) else StateSpec.single(tuple(spec))
        return torch.cat([_finished(self.draw(chunk), chunk, spec) for chunk in self.chunks(request, denoiser, spec)])

    def chunks(self, request: SampleRequest, denoiser: Denoiser, spec: StateSpec) -> Iterator[Chunk]:
        """The chunks of a request, in order; nothing of one depends on how the rows are cut."""
        self.check(request, denoiser)
        if request.operations and not self.operates:
            raise AnydiffError(
                f"operations are for plans, but {type(self).__name__} runs none; leave operations out, or give a "
                "solver or a plan."
            )
        indices, path = sample_indices(request.count), denoiser.path
        cases = len(indices) if request.cases is None else natural_number("cases", request.cases)
        condition = Conditioning.of(request.condition).checked(cases)
        layers, inner = guidance_layers(request.guidance, spec, condition), self.inner(denoiser)
        layers = [*sharpening(request.temperature, path), *layers]
        self.warn(inner, layers, condition)
        begins = request.begins
        if isinstance(begins, Tensor):
            begins = begins.expand(len(indices), *spec.shape) if tuple(begins.shape) == (1, *spec.shape) else begins
            check_rows("start", begins, len(indices))
        batch_size = natural_number("batch_size", request.batch_size)
        dtype = spec.dtype(self.dtype if request.dtype is None else request.dtype)
        for begin in range(0, len(indices), batch_size):
            rows = slice(begin, begin + batch_size)
            samples = indices[rows]
            wanted = torch.arange(len(indices))[rows] % cases

            guided = wrapped(inner, [layer.for_seed(request.seed).for_run(samples) for layer in layers])
            part = encoded_rows(guided, condition, wanted, request.device)
            part = replace(part, index=torch.tensor(samples, device=request.device))
            source = noise_source(spec, request.seed, path, request.temperature, part.mask, request.noise)
            if begins is None:
                first = path.first(source.draw(samples, 0, dtype, torch.device(request.device)), part).to(dtype)
            elif isinstance(begins, Start):
                like = torch.empty(0, *spec.shape, dtype=dtype, device=request.device)
                first = begins.states(path, samples, source, part, like)
            else:
                first = begins[rows].to(request.device, dtype)
            spec.check(first)
            yield Chunk(guided, first, samples, source, part, rows, request.callbacks, request, request.operations)


def _finished(states: Tensor, chunk: Chunk, spec: StateSpec) -> Tensor:
    """With known entries as they were given; absent nodes of classes hold class 0."""
    states = with_known_entries(states, chunk.condition)
    if not (spec.categorical and spec.has_absent_entries):
        return states
    return states * spec.present(chunk.condition.mask).to(states)


@torch.no_grad()
def encoded_rows(denoiser: Denoiser, condition: Conditioning, rows: Tensor, device: torch.device | str) -> Conditioning:
    """The ``rows`` (indices, which may repeat) of ``condition`` as the denoiser encodes them, each one once."""
    unique, places = torch.unique(rows, return_inverse=True)
    part = denoiser.encode_condition(condition.rows(unique).to(device))
    return part if torch.equal(unique, rows) else part.rows(places)


def given_layers(guidance: Wrapper | Sequence[Wrapper] | None) -> list[Wrapper]:
    """One or several wrappers, or none, as a list."""
    return [guidance] if isinstance(guidance, Wrapper) else list(guidance or ())


def guidance_layers(
    guidance: Wrapper | Sequence[Wrapper] | None, spec: StateSpec, condition: Conditioning
) -> list[Wrapper]:
    """The wrappers in order, the first innermost, and outermost what keeps known entries and absent ones, if any.

    Known entries of ``condition``, that of all samples, are looked at here, once; a network call looks at none.

    Raises:
        AnydiffError: a known value is not finite.
    """
    layers = given_layers(guidance)
    if condition.known is not None and condition.known.values.shape == condition.known.mask.shape:
        require_finite(condition.known)
    if condition.known is not None and not any(isinstance(layer, KnownEntries) for layer in layers):
        layers = [*layers, KnownEntries()]
    return [*layers, PresentNodes(spec)] if spec.has_absent_entries else layers


def sharpening(temperature: float, path: Path) -> list[Wrapper]:
    """What the temperature is to classes: a wrapper innermost of all guidance; nothing for real numbers, or for 1.

    Raises:
        AnydiffError: a negative temperature.
    """
    if not temperature >= 0:
        raise AnydiffError(f"temperature is {temperature}, but must be at least 0 (1 is the model's own law).")
    return [Sharpened(temperature)] if temperature != 1.0 and isinstance(path, CategoricalPath) else []


def sample_indices(count: int | Sequence[int]) -> Sequence[int]:
    """The indices of the samples: ``range(count)``, or the given ones, checked."""
    if not hasattr(count, "__iter__"):
        return range(natural_number("count", count))
    indices = [natural_number("sample index", index, minimum=0) for index in count]
    if not indices:
        raise AnydiffError("count is an empty list, but must be a number of samples or a list of sample indices.")
    return indices


class _Tempered:
    """A noise source whose every draw is scaled by the temperature."""

    def __init__(self, source: DrawsNoise, temperature: float) -> None:
        if not temperature >= 0:
            raise AnydiffError(f"temperature is {temperature}, but must be at least 0 (1 is the model's own law).")
        self.source, self.temperature = source, temperature

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.source.draw(samples, draw, dtype, device) * self.temperature


@dataclass(frozen=True)
class _Given:
    """A caller's noise source, whose answers are looked at: one draw per sample, of the shape of its state."""

    source: DrawsNoise
    shape: tuple[int, ...]

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        found = self.source.draw(samples, draw, dtype, device)
        wanted = (len(samples), *self.shape)
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise AnydiffError(
                f"noise gives {given} for draw {draw} of {len(samples)} samples, but must give {wanted}; one draw of "
                "the shape of a state for each sample index."
            )
        return found


def noise_source(
    spec: StateSpec, seed: int, path: Path, temperature: float = 1.0, mask: Tensor | None = None,
    given: DrawsNoise | None = None,
) -> DrawsNoise:  # fmt: skip
    """The samples' own streams by the path's noise law, scaled by ``temperature``; none where nodes are absent.

    A source that is ``given`` stands in place of the streams.
    """
    source: DrawsNoise
    if given is None:
        source = NoiseSource(spec, seed, path.noise_law, mask if spec.masked else None)
    else:
        source = _Given(given, tuple(spec.shape))
    # Classes are sharpened by their logits (:class:`anydiff.denoisers.wrappers.Sharpened`), and never by their draws.
    scaled = temperature != 1.0 and not isinstance(path, CategoricalPath)
    return _Tempered(source, temperature) if scaled else source


@dataclass(frozen=True)
class Shifted:
    """What the known sources of a path are to a sampler that travels y = x - Σ_k s_k u_k, an ordinary path.

    Attributes:
        path: has known sources.
        known: u_k ``[B, *shape]`` by name.
    """

    path: GaussianPath
    known: Mapping[str, Tensor]

    def state(self, t: float, like: Tensor) -> Tensor:
        """Σ_k s_k(t) u_k: what stands between x and y at time ``t``."""
        return self._sum(self.path.shift(t), like)

    def data(self, like: Tensor) -> Tensor:
        """Σ_k d_k u_k: what stands between a data prediction of x and one of y."""
        return self._sum(self.path.centre, like)

    def _sum(self, factors: Mapping[str, float], like: Tensor) -> Tensor:
        total = torch.zeros_like(like)
        for name, value in self.known.items():
            factor = factors.get(name, 0.0)
            total = total + (value.to(like) if factor == 1.0 else value.to(like) * factor)
        return total
