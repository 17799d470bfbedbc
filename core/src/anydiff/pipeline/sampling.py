"""What may be asked of a pipeline that samples, and how it becomes one request to a sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from anydiff.autoregressive import BlockPlan
from anydiff.denoisers import Denoiser, rerouted
from anydiff.denoisers.reversed import ReversedDenoiser
from anydiff.denoisers.wrappers import Wrapper
from anydiff.domains import Domain, FixesEntries
from anydiff.editing import NoiseRecord
from anydiff.errors import AnydiffError, natural_number
from anydiff.inverse.known import keeping
from anydiff.metrics import SampleSet
from anydiff.metrics.ensembles import members_per_case
from anydiff.networks import Autoencoder
from anydiff.pipeline.aggregate import in_space, read_by
from anydiff.pipeline.conditions import Asked, fixing, known_entries, require_guidable, with_known_nodes
from anydiff.pipeline.energies import guidance_of
from anydiff.pipeline.fixed import require_free
from anydiff.pipeline.noises import check_record
from anydiff.pipeline.refinement import with_codes
from anydiff.pipeline.samplers import sampler_of
from anydiff.plugins import hooks
from anydiff.samplers import Sampler, SampleRequest
from anydiff.samplers.sampler import sample_indices
from anydiff.solvers import Solver
from anydiff.solvers.executor import Callback, DrawsNoise, Operation, Step
from anydiff.solvers.plan import Plan
from anydiff.solvers.start import Start
from anydiff.states import Conditioning, Known, StateSpec

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class SampleOptions:
    """What :meth:`Pipeline.sample` takes as keywords.

    Attributes:
        nfe: budget of network calls per sample (default: the recipe's), all groups of an order together.
        solver: a registered solver's or sampler's name, a solver, a plan or a sampler (default: the recipe's);
            ``"adaptive-ode"`` and ``"adaptive-dpm-solver"`` choose their own steps and take no nfe and no grid.
        seed: whole number.
        guidance: classifier-free scale, or guidances (default: the recipe's).
        condition: what to ask for: ``{"label": "sneaker"}`` as text the domain understands, or tensors or lists with
            one row per sample; ``mask`` ``[count, N]`` says which nodes each sample has, where samples differ in size
            (default: drawn by the domain). Or a :class:`~anydiff.states.Conditioning`, which can also say in which rows
            a condition is present.
        batch_size: rows per network call; does not change the samples beyond the network's own rounding.
        device: where to sample.
        start: where sampling begins: states at the plan's first node (one row each, or one for all), instead of the
            prior, or a :class:`~anydiff.solvers.Start`; of a bridge also native objects, one per sample.
        noise: the source of every draw in place of ``seed``, keyed by the index of the sample
            (:class:`anydiff.samplers.SampleRequest`): a :class:`anydiff.editing.NoiseRecord`, say.
        reverse: travel a bridge from its data to its start; ``start`` then holds data.
        operations: functions that a plan's Apply instructions name, by these names.
        temperature: factor on every noise draw (default: the recipe's, and 1 for several samples of a case).
        known: native objects or clean states, one per sample or one for all, some entries of which must come out as
            they are (inpainting, start and goal, a scaffold). The others follow them; where the network sees known
            entries
            noised by the Jacobian (:class:`anydiff.inverse.known.MeasuredEntries`), at two backward passes a call.
        known_mask: which entries: booleans of the shape of one state, or of all.
        callbacks: called after each network call with a :class:`~anydiff.solvers.Step`.
        cases: several samples share a condition: it (and ``known``) has one row per case, and row i belongs to case
            i % cases.
        path: another route under the same network, ``{"route": "residual-first"}``: :func:`anydiff.denoisers.rerouted`.
        read_out: of an aggregate: ``noise`` or ``heads`` (see :class:`anydiff.pipeline.aggregate.ReadOut`; default: the
            recipe's, and ``heads`` where a part is known).
        solving: ``grid``, ``end`` and the solver's own options, or ``calibration``, what :meth:`Pipeline.calibrate`
            left, as an object or a file, in place of all these; as keywords, all that is none of the above.
    """

    nfe: int | None = None
    solver: str | Solver | Plan | BlockPlan | Sampler | None = None
    seed: int = 0
    guidance: float | Wrapper | list[Wrapper] | None = None
    condition: Asked | None = None
    batch_size: int = 256
    device: torch.device | str | None = None
    start: Tensor | Start | Sequence[Any] | None = None
    noise: DrawsNoise | None = None
    reverse: bool = False
    operations: Mapping[str, Operation] = field(default_factory=dict)
    temperature: float | None = None
    known: Tensor | Sequence[Any] | None = None
    known_mask: Tensor | None = None
    callbacks: Sequence[Callback] = ()
    cases: int | None = None
    path: Mapping[str, Any] | None = None
    read_out: Literal["noise", "heads"] | None = None
    solving: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> SampleOptions:
        """From keywords; those that are no option here belong to the solver."""
        own = {each.name for each in fields(cls)} - {"solving"}
        solving = {name: value for name, value in options.items() if name not in own}
        return cls(**{name: value for name, value in options.items() if name in own}, solving=solving)


def begun(pipeline: Pipeline, start: Tensor | Start | Sequence[Any] | None) -> Tensor | Start | None:
    """The states that sampling begins with, of states or of native objects.

    Raises:
        AnydiffError: objects where the path begins at noise.
    """
    if start is None or isinstance(start, Tensor | Start):
        return start
    if not pipeline.denoiser.path.named("start"):
        raise AnydiffError(
            f"start holds objects, but {pipeline.recipe.name!r} begins at noise (path {pipeline.recipe.path.name!r}); "
            "leave start out, or take a recipe of a bridge."
        )
    states = pipeline.domain.encode(start)
    return states if pipeline.latent is None else pipeline.latent.to_latent(states)


def on_path(pipeline: Pipeline, options: Mapping[str, Any]) -> Pipeline:
    """The same network on its path with other options; refused as :func:`anydiff.denoisers.rerouted` says."""
    return replace(pipeline, denoiser=rerouted(pipeline.denoiser, options))


def sample_states(pipeline: Pipeline, count: int | Sequence[int] | None, options: SampleOptions) -> SampleSet:
    """The states of ``count`` samples (or of those numbered so) with their conditions.

    Raises:
        AnydiffError: the pipeline is an autoencoder, or the options ask for what its recipe cannot do.
    """
    if count is None:
        if options.start is None or isinstance(options.start, Start):
            raise AnydiffError("count is missing; say how many samples are drawn, or give the states to start from.")
        count = len(options.start)
    draws = Draws.of(pipeline, count, options)
    return draws.finished(draws.states())


@dataclass(frozen=True)
class Draws:
    """What is asked of a pipeline, made ready once: states may be drawn of it more than once, under other guidance.

    Attributes:
        pipeline: the model.
        count: how many samples, or their indices.
        options: what else was asked.
        condition: one row per sample, or per case where the options say ``cases``.
        layers: guidance and other wrappers, the first innermost.
        denoiser: on the device that was asked for, as ``wrap_denoiser`` hooks leave it.
    """

    pipeline: Pipeline
    count: int | Sequence[int]
    options: SampleOptions
    condition: Conditioning
    layers: list[Wrapper]
    denoiser: Denoiser

    @classmethod
    def of(cls, pipeline: Pipeline, count: int | Sequence[int], options: SampleOptions) -> Draws:
        """Everything checked that can be checked before anything is drawn; raises as :func:`sample_states` does."""
        if isinstance(pipeline.denoiser.network, Autoencoder):
            raise AnydiffError(
                f"{pipeline.recipe.name!r} is an autoencoder, which draws nothing; train a recipe with it as latent "
                "and sample that."
            )
        for name, value in (
            ("guidance", options.guidance),
            ("path", options.path),
            ("reverse", options.reverse or None),
        ):
            if value is not None:
                require_free(pipeline, name, value)
        if options.path:
            pipeline = on_path(pipeline, options.path)
        rows = natural_number("count", count) if isinstance(count, int) else len(count)
        distinct = rows if options.cases is None else natural_number("cases", options.cases)
        layers = guidance_of(pipeline, options.guidance)
        numbers = range(distinct) if options.cases is not None or isinstance(count, int) else count
        given = with_codes(pipeline, options.condition, numbers, options.seed)
        asked = pipeline.conditioning(given, distinct, [name for layer in layers for name in layer.reads])
        condition = _sized_and_fixed(pipeline.domain, asked, numbers, options)
        layers = _fitting(pipeline, layers, condition, options)
        device = next(pipeline.denoiser.parameters()).device if options.device is None else options.device
        usual = pipeline.recipe.sampling.read_out
        denoiser: Denoiser = pipeline.denoiser.to(device)
        denoiser = read_by(pipeline.latent, denoiser, condition, options.read_out, usual)
        denoiser = hooks().transform("wrap_denoiser", denoiser=denoiser, recipe=pipeline.recipe)
        denoiser = ReversedDenoiser(denoiser) if options.reverse else denoiser
        options = replace(options, device=device, start=begun(pipeline, options.start))
        return cls(pipeline, count, options, condition, layers, denoiser)

    @property
    def rows(self) -> int:
        """How many samples."""
        return self.count if isinstance(self.count, int) else len(self.count)

    @property
    def temperature(self) -> float:
        """The factor on noise: what was asked for, else the recipe's own for so many samples of a case."""
        asked, cases = self.options.temperature, self.options.cases
        return self.pipeline.recipe.sampling.temperature_of(asked, self.rows, self.rows if cases is None else cases)

    @property
    def told(self) -> Conditioning:
        """What each sample was asked for, one row per sample."""
        condition = replace(self.condition, known=None)
        return condition if self.options.cases is None else condition.rows(torch.arange(self.rows) % self.options.cases)

    @property
    def callbacks(self) -> list[Callback]:
        """Those of the caller, and the hook ``sampling_step`` where somebody listens."""
        return [*self.options.callbacks, *([_notify_step] if hooks().has("sampling_step") else [])]

    @property
    def spec(self) -> StateSpec:
        """Of the states that are diffused."""
        return self.pipeline.domain.spec if self.pipeline.latent is None else self.pipeline.latent.spec

    def around(self, outer: Sequence[Wrapper] = ()) -> list[Wrapper]:
        """All that goes around the denoiser, the first innermost."""
        condition = replace(self.condition, known=self.asked.known)
        return [*self.layers, *outer, *keeping(self.denoiser, self.layers, condition)]

    @cached_property
    def asked(self) -> Conditioning:
        """The condition of the states that are diffused: known entries of data as what they say of latents."""
        return in_space(self.pipeline.latent, self.condition.without(fixing(self.pipeline.domain)))

    def request(self, seed: int | None = None, outer: Sequence[Wrapper] = ()) -> SampleRequest:
        """What a sampler is asked for; arguments as for :meth:`states`."""
        options = self.options
        start = options.start if isinstance(options.start, Tensor | Start) else None  # objects were encoded before
        return SampleRequest(
            self.count, seed=options.seed if seed is None else seed, guidance=self.around(outer),
            condition=self.asked, cases=options.cases, start=start, noise=options.noise, operations=options.operations,
            temperature=self.temperature,
            batch_size=options.batch_size, device=options.device or "cpu", callbacks=self.callbacks,
        )  # fmt: skip

    def states(self, seed: int | None = None, outer: Sequence[Wrapper] = ()) -> Tensor:
        """The states that are diffused, latents where the recipe has some: ``[rows, *shape]`` of the spec's type.

        Args:
            seed: in place of that of the options.
            outer: guidance around all other.
        """
        options, solving = self.options, {**self.options.solving, "guidance": self.around(outer)}
        sampler = sampler_of(self.pipeline, options.nfe, options.solver, solving, self.denoiser.path)
        record = options.noise if isinstance(options.noise, NoiseRecord) else None
        if record is not None:
            check_record(record, self.pipeline, self.told, self.layers)
        found = sampler.sample(self.request(seed, outer), self.denoiser, self.spec)
        found = found if record is None else record.finished(found, sample_indices(self.count))
        return found.to(self.spec.dtype())

    def finished(self, states: Tensor) -> SampleSet:
        """``states`` as samples: decoded where they are latents, then given to ``samples_ready`` hooks."""
        domain, latent, told = self.pipeline.domain, self.pipeline.latent, self.told
        states = states.cpu() if latent is None else latent.to_data(states)
        fixed = self.condition.known
        if fixed is not None and latent is not None:  # decoding would change it
            rows = torch.arange(self.rows) % len(fixed.mask)
            states = torch.where(fixed.mask[rows].cpu(), fixed.values[rows].to(states), states)
        states = hooks().transform(
            "samples_ready", states=states, condition=told, recipe=self.pipeline.recipe, say=domain.spec.moved_out
        )
        return SampleSet(states, told, domain)


def _sized_and_fixed(
    domain: Domain, condition: Conditioning, numbers: Sequence[int], options: SampleOptions
) -> Conditioning:
    """With sizes, drawn where none are given, and with the entries that are fixed: by the caller or by the domain.

    Raises:
        AnydiffError: entries are fixed twice.
    """
    sized = condition.mask is not None
    if domain.spec.masked and not sized:
        condition = replace(condition, mask=domain.sample_mask(numbers, options.seed))
    named = known_entries(domain, options.known, options.known_mask, len(numbers))
    if named is not None and condition.known is not None:
        raise AnydiffError("known is given twice: as known= and within the condition; leave one of them out.")
    derived = domain.known_entries(condition) if isinstance(domain, FixesEntries) else None
    fixed = named or condition.known or derived
    if named is not None and derived is not None and fixing(domain):  # a picture and its label: both parts are known
        fixed = Known(torch.where(named.mask, named.values, derived.values), named.mask | derived.mask)
    if fixed is not None and condition.mask is not None and domain.spec.masked:
        condition = replace(condition, mask=with_known_nodes(domain, condition.mask, fixed, sized))
    return replace(condition, known=fixed)


def _fitting(
    pipeline: Pipeline, layers: list[Wrapper], condition: Conditioning, options: SampleOptions
) -> list[Wrapper]:
    """The guidance that this conditioning allows.

    Raises:
        AnydiffError: the network cannot be guided so.
    """
    if not condition.given and options.guidance is None:
        # Without a condition there is nothing to guide towards; the recipe's default then does not apply.
        layers = [layer for layer in layers if not layer.needs_condition]
    require_guidable(pipeline.recipe, pipeline.denoiser.network, pipeline.domain, layers)
    return layers


def member_rows(members: int | Sequence[int], cases: int) -> list[int]:
    """The sample indices of an ensemble: member j of case c is sample j n + c."""
    numbers = range(natural_number("members", members)) if isinstance(members, int) else members
    return [member * cases + case for member in numbers for case in range(cases)]


def objects_per_case(samples: SampleSet, cases: int) -> list[list[Any]]:
    """The native objects of an ensemble, one list per case."""
    objects = samples.domain.decode(samples.states, samples.condition)
    numbers = members_per_case(torch.arange(len(samples)), cases).tolist()
    return [[objects[number] for number in row] for row in numbers]


def _notify_step(step: Step) -> None:
    hooks().notify("sampling_step", step=step.index, steps=step.total, time=step.t, state=step.state)
