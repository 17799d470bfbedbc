"""``sample``: from a denoiser and a budget to a sample set, in chunks that do not change a bit of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, natural_number
from anydiff.guidance.base import Guidance, apply_guidance
from anydiff.guidance.known import settle
from anydiff.guidance.present import PresentNodes
from anydiff.paths.base import GaussianPath
from anydiff.solvers.base import Solver, compile_plan
from anydiff.solvers.executor import Callback, DrawsNoise, execute
from anydiff.solvers.plan import Plan
from anydiff.states.noise import NoiseSource
from anydiff.states.spec import NODE_MASK, StateSpec


def sample(
    denoiser: Denoiser,
    spec: StateSpec | Sequence[int],
    count: int | Sequence[int],
    *,
    nfe: int = 20,
    solver: str | Solver | Plan | None = "dpm-solver++-2m",
    seed: int = 0,
    grid: str | Sequence[float] | None = None,
    end: str = "clean",
    guidance: Guidance | Sequence[Guidance] | None = None,
    condition: Mapping[str, Tensor] | None = None,
    start: Tensor | None = None,
    temperature: float = 1.0,
    batch_size: int = 256,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    callbacks: Sequence[Callback] = (),
    cases: int | None = None,
    **options: Any,
) -> Tensor:
    """Draw samples ``[count, *spec.shape]``.

    Sample k of seed s depends on (s, k) alone: not on ``batch_size``, nor on which other samples are drawn.

    Args:
        denoiser: E[x_0 | x_t], trained or exact.
        spec: what one sample is, or simply its shape.
        count: how many samples (indices 0 .. count-1), or the indices themselves.
        nfe: budget of network calls per sample.
        solver: a registered name, a :class:`Solver`, or a compiled :class:`Plan` (then nfe, grid and end are its own);
            None is ``"default"``, which is chosen for accurate denoisers.
        seed: whole number in [0, 2^64).
        grid: see :func:`~anydiff.paths.time_grid`; a custom list may begin below t_start.
        end: how the plan ends; see :func:`~anydiff.solvers.compile_plan`.
        guidance: one or several guidances, the first innermost.
        condition: tensors with one row per sample (or per case), encoded once per chunk, not once per network call;
            ``mask`` ``[count, N]`` says which nodes of a sample exist;
            ``known`` and ``known_mask`` belong to :class:`~anydiff.guidance.KnownEntries`.
        start: states at the plan's first node ``[count, *shape]``, instead of draws from the prior.
        temperature: factor on every noise draw, the prior's included.
        batch_size: rows per network call.
        dtype: floating-point type of the state.
        device: where to sample.
        callbacks: called after each network call with a :class:`Step`.
        cases: several samples share a condition: it has one row per case, and row i of the samples belongs to case
            i % cases. A case is encoded once per chunk however many samples of it are drawn.
        options: options of the solver, when it is given by name.

    Raises:
        AnydiffError: a count, seed, shape or budget is wrong.
    """
    if not isinstance(spec, StateSpec):
        spec = StateSpec.single(tuple(spec))
    indices = sample_indices(count)
    path = denoiser.path
    plan = _plan("default" if solver is None else solver, path, nfe, grid, end, options)
    if start is None and plan.nodes[0] != path.t_start:
        raise AnydiffError(
            f"the plan starts at t={plan.nodes[0]:g}, below the prior's t={path.t_start:g}; pass start= with states at "
            "that time."
        )
    condition = dict(condition or {})
    layers = guidance_layers(guidance, spec)
    numbered = any(layer.reads_sample_index for layer in layers)
    denoiser = apply_guidance(denoiser, layers)
    cases = len(indices) if cases is None else natural_number("cases", cases)
    condition = checked_rows(condition, cases)
    checked_rows({"start": start} if start is not None else {}, len(indices))
    batch_size = natural_number("batch_size", batch_size)
    chunks = []
    for begin in range(0, len(indices), batch_size):
        rows = slice(begin, begin + batch_size)
        samples = indices[rows]
        wanted = torch.arange(len(indices))[rows] % cases
        mask = condition[NODE_MASK][wanted] if NODE_MASK in condition else None
        source = noise_source(spec, seed, path, temperature, mask)
        constants = {name: condition[name][wanted].to(device) for name in plan.constants if name in condition}
        if start is None:
            first = prior_states(path, source, samples, dtype, device, constants)
        else:
            first = start[rows].to(device, dtype)
        spec.check(first)
        part = encoded_rows(denoiser, condition, wanted, device)
        if numbered:
            part["sample_index"] = torch.tensor(list(samples), device=device)
        last = execute(
            plan, denoiser, first, noise=source, samples=samples, condition=part, constants=constants,
            callbacks=callbacks,
        )  # fmt: skip
        chunks.append(settle(last, part))
    return torch.cat(chunks)


@torch.no_grad()
def encoded_rows(
    denoiser: Denoiser, condition: Mapping[str, Tensor], rows: Tensor, device: torch.device | str
) -> dict[str, Tensor]:
    """The ``rows`` (indices, which may repeat) of ``condition`` as the denoiser encodes them, each one once."""
    unique, places = torch.unique(rows, return_inverse=True)
    part = {name: value[unique].to(device) for name, value in condition.items()}
    part = denoiser.encode_condition(**part)
    if torch.equal(unique, rows):
        return part
    return {name: value[places.to(value.device)] for name, value in part.items()}


def guidance_layers(guidance: Guidance | Sequence[Guidance] | None, spec: StateSpec) -> list[Guidance]:
    """The guidances in order, the first innermost, and outermost what keeps absent entries at zero, if any."""
    layers = [guidance] if isinstance(guidance, Guidance) else list(guidance or ())
    return [*layers, PresentNodes(spec)] if spec.has_absent_entries else layers


def sample_indices(count: int | Sequence[int]) -> Sequence[int]:
    """The indices of the samples: ``range(count)``, or the given ones, checked."""
    if not hasattr(count, "__iter__"):
        return range(natural_number("count", count))
    indices = [natural_number("sample index", index, minimum=0) for index in count]
    if not indices:
        raise AnydiffError("count is an empty list, but must be a number of samples or a list of sample indices.")
    return indices


def _plan(
    solver: str | Solver | Plan,
    path: GaussianPath,
    nfe: int,
    grid: str | Sequence[float] | None,
    end: str,
    options: Mapping[str, Any],
) -> Plan:
    if options and not isinstance(solver, str):
        raise AnydiffError(
            f"{next(iter(options))} is an option for a solver given by name, but solver is a "
            f"{type(solver).__name__}; set it there."
        )
    if not isinstance(solver, Plan):
        return compile_plan(solver, path, nfe, grid, end, **options)
    # A path made of a function has no text that outlives the process, so such plans cannot be compared.
    if solver.path != repr(path) and "<" not in solver.path:
        raise AnydiffError(
            f"the plan was compiled for {solver.path}, but the denoiser's path is {path!r}; compile anew."
        )
    return solver


class _Tempered:
    """A noise source whose every draw is scaled by the temperature."""

    def __init__(self, source: NoiseSource, temperature: float) -> None:
        if not temperature >= 0:
            raise AnydiffError(f"temperature is {temperature}, but must be at least 0 (1 is the model's own law).")
        self.source, self.temperature = source, temperature

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.source.draw(samples, draw, dtype, device) * self.temperature


def noise_source(
    spec: StateSpec, seed: int, path: GaussianPath, temperature: float = 1.0, mask: Tensor | None = None
) -> DrawsNoise:
    """The samples' own streams by the path's noise law, scaled by ``temperature``; none where nodes are absent."""
    source = NoiseSource(spec, seed, path.noise_law, mask if spec.masked else None)
    return source if temperature == 1.0 else _Tempered(source, temperature)


def prior_states(
    path: GaussianPath,
    source: DrawsNoise,
    samples: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str,
    condition: Mapping[str, Tensor],
) -> Tensor:
    """x_T ``[len(samples), *shape]``: draw 0 of each sample's stream, scaled as the prior, around μ if there is one."""
    first = path.prior(source.draw(samples, 0, dtype, torch.device(device)))
    if "mu" in path.sources and "mu" in condition:
        first = first + condition["mu"].to(first)
    return first


def checked_rows(condition: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """``condition``, each entry with one row per sample, or a sentence that says which has not."""
    for name, value in condition.items():
        if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != count:
            rows = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise AnydiffError(
                f"{name} has {rows} where {count} rows are needed; give a tensor with one row per sample."
            )
    return dict(condition)
