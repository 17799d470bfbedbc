"""Restoration: from a measurement in the field's own units to samples, whatever the method and the domain."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.domains import Domain
from anydiff.errors import AnydiffError
from anydiff.inverse import Gaussian, InverseMethod, MeasurementNoise, Problem
from anydiff.inverse.method import GuidanceMethod
from anydiff.inverse.operators import AveragePooling, LinearOperator, Mask, Operator
from anydiff.metrics import SampleSet
from anydiff.pipeline.conditions import fixing, number_of_cases
from anydiff.pipeline.fixed import require_free, require_whole
from anydiff.pipeline.latent import Latent, Space
from anydiff.pipeline.measured import Measured, said
from anydiff.pipeline.samplers import sampler_of
from anydiff.pipeline.sampling import Draws, SampleOptions, member_rows
from anydiff.registry import registry
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

DEFAULT_METHOD = "mmps"
UNLIKELY = 20.0
"""By so many deviations of the data an entry cannot be off, where the domain names no range."""
FAR = 100.0
"""Noise of more than so many times the data's range cannot be meant."""


@dataclass(frozen=True)
class Restoration:
    """What :meth:`Pipeline.restore` takes beside the measurement.

    Attributes:
        operator: what was measured: a registered name (``"mask"``, ``"average-pooling"``), or an operator on states in
            the field's units.
        operator_options: of an operator given by name.
        noise: of the measurement, in its own units: a standard deviation (a number, or one per entry), or a law.
        method: how: a registered name, or a method.
        method_options: of a method given by name.
        members: samples for each measurement.
        mask: which entries were observed: a bool array of one measurement, or, beside a measurement that is a file,
            another file. Entries that are NaN are not observed either.
        units: whether the measurement is in the field's units; else in those of the states.
        sampling: everything else, as for :meth:`Pipeline.sample`.
    """

    operator: str | Operator = "mask"
    operator_options: Mapping[str, Any] = field(default_factory=dict)
    noise: float | Tensor | MeasurementNoise = 0.0
    method: str | InverseMethod = DEFAULT_METHOD
    method_options: Mapping[str, Any] = field(default_factory=dict)
    members: int | Sequence[int] = 1
    mask: Any = None
    units: bool = True
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Restoration:
        """From keywords; those that are no option here belong to the sampling."""
        own = {each.name for each in fields(cls)} - {"sampling"}
        rest = {name: value for name, value in options.items() if name not in own}
        return cls(**{name: value for name, value in options.items() if name in own}, sampling=rest)


def restored(pipeline: Pipeline, measurement: Any, options: Restoration) -> tuple[SampleSet, int, Sequence[Any] | None]:
    """Samples as states, member by member, of how many cases, and what tells these apart.

    Raises:
        AnydiffError: sizes, units or noise do not fit, or the method does not take this operator.
    """
    require_whole(pipeline, "restoration from a measurement")
    if pipeline.latent is not None and (not isinstance(pipeline.latent, Latent) or pipeline.latent.spec.categorical):
        raise AnydiffError(
            f"{pipeline.recipe.name!r} diffuses codes or parts, through which no measurement has a gradient; use a "
            "recipe without latent, or one whose latents are numbers."
        )
    require_free(pipeline, "restoration from a measurement")
    if options.sampling.get("reverse"):
        raise AnydiffError("reverse travels a bridge from its data, of which nothing is to be restored; leave it out.")
    ready = Measured.of(pipeline, measurement, options.operator, options.operator_options, options.noise, options.mask)
    operator, found, values = ready.operator, ready.found, ready.found.values
    sampling = SampleOptions.of(dict(options.sampling))
    cases = number_of_cases(sampling.condition or {}, sampling.cases, len(values))
    if len(values) not in (1, cases):
        raise AnydiffError(
            f"there are {len(values)} measurements, but cases is {cases}; give one for each case, or one."
        )
    draws = Draws.of(pipeline, member_rows(options.members, cases), replace(sampling, cases=cases))
    problem = Problem(operator, values, ready.noise)
    scale, offset = torch.tensor(1.0), torch.tensor(0.0)
    decides: dict[str, Tensor] = {}
    if options.units:
        scale, offset, decides = units_of(pipeline.domain, operator, values, draws.condition, found.condition)
    told_by = {**found.condition, **decides}
    check_sense(pipeline, problem, scale, offset, relative=bool(decides))
    method = build_method(options.method, options.method_options)
    states = solve(draws, method, problem.in_states(scale, offset))
    samples, rows = draws.finished(states), torch.arange(draws.rows) % cases
    known = {name: value.expand(cases, *value.shape[1:])[rows] for name, value in told_by.items()}
    told = samples.condition.with_given(**{**known, **samples.condition.given})
    return replace(samples, condition=told), cases, found.labels


def restore_set(pipeline: Pipeline, measurement: Any, **options: Any) -> SampleSet:
    """As ``pipeline.restore``, as states with their conditions: row i is member i // n of case i % n."""
    return restored(pipeline, measurement, Restoration.of(options))[0]


def units_of(
    domain: Domain, operator: Operator, values: Tensor, given: Conditioning, read: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(scale, offset) of the states of which ``values`` were measured, and the conditions by which these decide them.

    Those are told to domains and not to the network, which has the measurement by the method. What was ``given`` counts
    before them, and they before what was ``read`` beside the values.
    """
    decides = domain.measured_condition(said(operator, values))
    scale, offset = domain.units(Conditioning({**(read or {}), **decides, **given.given}))
    return scale, offset, decides


def solve(draws: Draws, method: InverseMethod, problem: Problem) -> Tensor:
    """The states of ``draws`` of which ``problem`` (in units of states) was measured, float32."""
    options, pipeline = draws.options, draws.pipeline
    settings = pipeline.recipe.sampling
    solving: dict[str, Any] = {"nfe": settings.nfe if options.nfe is None else options.nfe}
    if isinstance(method, GuidanceMethod):
        path = draws.denoiser.path
        chosen = method.solver if options.solver is None else options.solver
        asked = {**options.solving, "guidance": draws.layers}
        solving = {"solver": sampler_of(pipeline, options.nfe, chosen, asked, path, method.bends)}
    else:
        solving.update(options.solving)
        solving.update({} if options.solver is None else {"solver": options.solver})
    if pipeline.latent is not None:
        problem = Problem(Decoded(problem.operator, pipeline.latent), problem.measurement, problem.noise)
    found = method.solve(
        problem, draws.denoiser, draws.spec, draws.count, seed=options.seed, guidance=draws.layers,
        condition=draws.condition.without(fixing(pipeline.domain)), cases=options.cases,
        temperature=draws.temperature, batch_size=options.batch_size, start=options.start,
        operations=options.operations,
        device=options.device or "cpu", callbacks=draws.callbacks, **solving,
    )  # fmt: skip
    return found.float()


@dataclass(frozen=True, eq=False)
class Decoded(Operator):
    """z -> A(decode(z)): what was measured of data, of their latents. The decoder is not linear.

    Attributes:
        operator: A, of states of the data.
        space: of the latents.
    """

    parts = ("operator",)
    operator: Operator
    space: Space

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of the latents of one state."""
        return tuple(self.space.spec.shape)

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one measurement."""
        return self.operator.output

    def forward(self, x: Tensor) -> Tensor:
        """A(decode(x)), with gradients through the decoder."""
        return self.operator.forward(self.space.decoded(x.cpu()).to(x))

    def observed(self, y: Tensor) -> Tensor:
        """What A says."""
        return self.operator.observed(y)


def build_method(method: str | InverseMethod, options: Mapping[str, Any]) -> InverseMethod:
    """A method from its name and options, or itself.

    Raises:
        AnydiffError: options beside a method that is made already, or what is registered is no method.
    """
    if isinstance(method, str):
        made = registry().build("inverse_methods", method, **options)
        if not isinstance(made, InverseMethod):
            raise AnydiffError(
                f"the inverse method {method!r} builds a {type(made).__name__}, which is no "
                "anydiff.inverse.InverseMethod; derive it from that class."
            )
        return made
    if options:
        raise AnydiffError("method_options go with a method given by name; set them on the method itself.")
    return method


def data_range(pipeline: Pipeline) -> tuple[tuple[float, float], str]:
    """What entries of states may be, and how a sentence says it: the domain's range, else many deviations."""
    ranges = {leaf.range for leaf in pipeline.domain.spec.leaves}
    known = next(iter(ranges)) if len(ranges) == 1 else None
    if known is not None:
        return known, "the whole range of the data"
    # Of latents the network knows the deviation, and nobody that of the data.
    width = math.inf if pipeline.latent is not None else UNLIKELY * pipeline.denoiser.sigma_data
    return (-width, width), f"{UNLIKELY:g} deviations of the data to both sides"


def check_sense(pipeline: Pipeline, problem: Problem, scale: Tensor, offset: Tensor, *, relative: bool = False) -> None:
    """Refuse, or warn of, what cannot be meant: nothing to restore, values outside the data's range, units of noise.

    Where what was measured decides the units (``relative``), no value can be in others.
    """
    noise, operator = problem.noise, problem.operator
    exact = isinstance(noise, Gaussian) and not bool((noise.std > 0).any())
    if exact and isinstance(operator, Mask) and bool(operator.mask.all()):
        raise AnydiffError(
            "the mask knows every entry and noise is 0, so there is nothing to restore; give the noise, or mask some "
            "out."
        )
    low_high, what = data_range(pipeline)
    if math.isinf(low_high[1]):
        return
    low, high = (level * scale + offset for level in low_high)
    width = float((high - low).max())
    if isinstance(noise, Gaussian) and float(noise.std.max()) > FAR * width:
        warnings.warn(
            f"the noise is {float(noise.std.max()):g}, which is {float(noise.std.max()) / width:.3g} times {what} "
            f"({width:g}); is it in the data's units?",
            stacklevel=4,
        )
    bounded = isinstance(operator, (Mask, AveragePooling)) and isinstance(noise, Gaussian)
    if not bounded or not isinstance(operator, LinearOperator) or relative:
        return
    slack = 6 * noise.std + 1e-3 * width  # type: ignore[attr-defined]
    ends = [operator.forward(torch.as_tensor(end).double().expand(-1, *operator.shape)) for end in (low, high)]
    y = problem.measurement.double()
    outside = operator.observed(y) & ((y < ends[0] - slack) | (y > ends[1] + slack))
    if bool(outside.any()):
        value = float(y[outside][0])
        raise AnydiffError(
            f"the measurement holds {int(outside.sum())} values outside of {what} ({value:g} is the first, the "
            f"range is {float(ends[0].min()):g} to {float(ends[1].max()):g}); give it in the data's units, or say how "
            "large the noise is."
        )
