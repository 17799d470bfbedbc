"""What a user holds: a trained recipe that samples, evaluates, saves and loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from anydiff.denoisers import NetworkDenoiser
from anydiff.domains import Domain, Report
from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import SampleSet, Score
from anydiff.metrics.ensembles import members_per_case
from anydiff.pipeline.companions import companions_of, joint_hash, recorded_text
from anydiff.pipeline.conditions import Asked, conditioning_of, number_of_cases, require_conditions
from anydiff.pipeline.evaluate import evaluate, like, paired, scores
from anydiff.pipeline.latent import Latent, latent_of
from anydiff.pipeline.likelihood import ode_inputs, require_density
from anydiff.pipeline.load import load_pipeline
from anydiff.pipeline.sampling import SampleOptions, sample_states
from anydiff.recipes import Recipe
from anydiff.recipes.build import build_dataset, build_denoiser, build_domain, build_solver, sample_set
from anydiff.registry import registry
from anydiff.samplers import AdaptiveODE, PlanSampler, Sampler, as_sampler
from anydiff.solvers import Solver
from anydiff.solvers.base import preferred_grid
from anydiff.solvers.plan import Plan
from anydiff.states import Conditioning
from anydiff.training import save_weights, weights_hash


@dataclass
class Pipeline:
    """A recipe with a denoiser. Make one with :func:`load`.

    Attributes:
        recipe: the complete experiment.
        denoiser: E[x_0 | x_t], in evaluation mode.
        domain: the codec between states and the field's own objects.
        metadata: where the weights come from.
        companions: role -> every other model that this one needs: ``latent`` is the autoencoder it diffuses in.
        origin: what it was loaded from: a recipe's name, or the absolute path of a run folder or weights file.
    """

    recipe: Recipe
    denoiser: NetworkDenoiser
    domain: Domain
    metadata: dict[str, str] = field(default_factory=dict)
    companions: dict[str, Pipeline] = field(default_factory=dict, repr=False)
    origin: str = ""

    @classmethod
    def untrained(cls, recipe: Recipe, companions: Mapping[str, Pipeline] | None = None) -> Pipeline:
        """A pipeline with freshly initialised weights; ``companions`` are loaded by their names where none are given.

        Raises:
            AnydiffError: a model that the recipe needs cannot be loaded.
        """
        domain = build_domain(recipe)
        found = companions_of(recipe, load) if companions is None else dict(companions)
        latent = None if recipe.latent is None else latent_of(found["latent"], recipe.latent, domain)
        return cls(
            recipe,
            build_denoiser(recipe, domain, None if latent is None else latent.spec).eval(),
            domain,
            companions=found,
        )

    @cached_property
    def latent(self) -> Latent | None:
        """The latent space that is diffused in; None where it is the data's own."""
        if self.recipe.latent is None:
            return None
        return latent_of(self.companions["latent"], self.recipe.latent, self.domain)

    @property
    def weights_hash(self) -> str:
        """sha256 (hex) of all parameters and buffers, by name, and of the models that this one needs."""
        return joint_hash(weights_hash(self.denoiser.network.state_dict()), self.companions)

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.denoiser.parameters())

    def sampler(
        self, nfe: int | None = None, solver: str | Solver | Plan | Sampler | None = None, **options: Any
    ) -> Sampler:
        """The sampler that :meth:`sample` would use; ``options`` are grid, end and the solver's own.

        Raises:
            AnydiffError: a budget or options beside a Plan or a Sampler, which hold their own; options of a solver that
                was not named; or a budget for a sampler that chooses its own steps.
        """
        settings = self.recipe.sampling
        own = next((name for name in options if name not in ("grid", "end")), None)
        if solver is None and own is not None:
            raise AnydiffError(f"{own} is {options[own]!r}, but belongs to a solver; name the solver too.")
        grid, end = options.pop("grid", None), options.pop("end", None)
        if solver is None or isinstance(solver, Solver) or _is_compiled(solver):
            nfe = settings.nfe if nfe is None else nfe
            end = settings.end if end is None else end
            # The recipe's grid was chosen for its own solver: another one that is made for a grid keeps that.
            if grid is None and (solver is None or preferred_grid(solver) is None):
                grid = settings.grid
        chosen = build_solver(settings.solver) if solver is None else solver
        return as_sampler(chosen, self.denoiser.path, nfe, grid, end, options)

    def plan(self, nfe: int | None = None, solver: str | Solver | Plan | None = None, **options: Any) -> Plan:
        """The plan that :meth:`sample` would run; arguments as for :meth:`sampler`.

        Raises:
            AnydiffError: as for :meth:`sampler`, or a sampler that chooses its steps while it runs.
        """
        sampler = self.sampler(nfe, solver, **options)
        if not isinstance(sampler, PlanSampler):
            raise AnydiffError(
                f"{solver!r} chooses its steps while it solves, so there is no plan of it; sample with it "
                "(pipeline.sample(..., solver=...), `anydiff sample --solver`), at a cost that follows from rtol and "
                "atol."
            )
        return sampler.plan

    def sample_set(self, count: int | Sequence[int], **options: Any) -> SampleSet:
        """Samples as states with their conditions; arguments as for :meth:`sample`."""
        return sample_states(self, count, SampleOptions.of(options))

    def sample(self, count: int | Sequence[int], **options: Any) -> Any:
        """Draw samples as the field's own objects.

        Args:
            count: how many, or the indices themselves; sample k of a seed is the same in every set.
            nfe: budget of network calls per sample (default: the recipe's).
            solver: a registered solver's or sampler's name, a solver, a plan or a sampler (default: the recipe's);
                ``"adaptive-ode"`` and ``"adaptive-dpm-solver"`` choose their own steps and take no nfe and no grid.
            seed: whole number.
            guidance: classifier-free scale, or guidances (default: the recipe's).
            condition: what to ask for: ``{"label": "sneaker"}`` as text the domain understands, or tensors or lists
                with one row per sample; ``mask`` ``[count, N]`` says which nodes each sample has, where samples differ
                in size (default: drawn by the domain). Or a :class:`~anydiff.states.Conditioning`, which can also say
                in which rows a condition is present.
            batch_size: rows per network call; does not change the samples beyond the network's own rounding.
            device: where to sample.
            start: states at the plan's first node, instead of the prior.
            temperature: factor on every noise draw.
            known: native objects or clean states, one per sample or one for all, some entries of which must come out
                as they are (inpainting, start and goal, a scaffold; see
                :class:`~anydiff.denoisers.wrappers.KnownEntries`).
            known_mask: which entries: booleans of the shape of one state, or of all.
            callbacks: called after each network call with a :class:`~anydiff.solvers.Step`.
            cases: several samples share a condition: it (and ``known``) has one row per case, and row i belongs to case
                i % cases.
            options: ``grid``, ``end`` and the solver's own options.
        """
        samples = self.sample_set(count, **options)
        return self.domain.decode(samples.states, samples.condition)

    def ensemble_set(
        self, members: int | Sequence[int], condition: Asked, *, cases: int | None = None, **options: Any
    ) -> SampleSet:
        """``members`` samples for each case of ``condition`` as states: row i is member i // n of case i % n.

        Member j of case c has the sample index j n + c, so asking for more members, or for members 64 to 127 alone,
        gives the same ones.

        Args:
            members: how many per case, or their numbers.
            condition: as for :meth:`sample`, one row per case.
            cases: how many there are; needed where the condition is text alone.
            options: as for :meth:`sample`.

        Raises:
            AnydiffError: the conditions have different numbers of rows, or their number cannot be told.
        """
        count = number_of_cases(condition, cases)
        numbers = range(natural_number("members", members)) if isinstance(members, int) else members
        rows = [member * count + case for member in numbers for case in range(count)]
        return self.sample_set(rows, condition=condition, cases=count, **options)

    def ensemble(
        self, members: int | Sequence[int], condition: Asked, *, cases: int | None = None, **options: Any
    ) -> list[list[Any]]:
        """``members`` samples for each case of ``condition`` as native objects, one list per case.

        Arguments as for :meth:`ensemble_set`; ``members_per_case`` gives the same as one tensor.
        """
        samples = self.ensemble_set(members, condition, cases=cases, **options)
        count = number_of_cases(condition, cases)
        objects = self.domain.decode(samples.states, samples.condition)
        numbers = members_per_case(torch.arange(len(samples)), count).tolist()
        return [[objects[number] for number in row] for row in numbers]

    def encode(
        self,
        objects: Sequence[Any],
        *,
        condition: Asked | None = None,
        ode: AdaptiveODE | None = None,
        **options: Any,
    ) -> Tensor:
        """Latents x_T ``[B, *shape]`` (float64) of native ``objects``: the states that flow to them.

        ``AdaptiveODE().decode(pipeline.denoiser, latents)`` is the way back, ``sample(start=latents)`` the same by a
        plan. Unguided unless ``guidance`` is given.

        Args:
            objects: the field's own objects.
            condition: as for :meth:`sample`.
            ode: the solver with its tolerances.
            options: of :meth:`AdaptiveODE.encode`.
        """
        denoiser, states, options = ode_inputs(self, objects, condition, options)
        return (ode or AdaptiveODE()).encode(denoiser, states, **options)

    def log_likelihood(
        self,
        objects: Sequence[Any],
        *,
        condition: Asked | None = None,
        ode: AdaptiveODE | None = None,
        **options: Any,
    ) -> Tensor:
        """log p ``[B]`` (float64, nats) of native ``objects`` as states; quantised ones (pictures) need dequantisation.

        Not for states with masked or symmetric leaves, whose entries are fewer than they seem. Arguments as for
        :meth:`encode`; ``options`` are those of :meth:`AdaptiveODE.log_likelihood`: ``trace``, say.
        """
        require_density(self.domain)
        denoiser, states, options = ode_inputs(self, objects, condition, options)
        return (ode or AdaptiveODE()).log_likelihood(denoiser, states, **options)

    def reference(self, count: int | None = None) -> SampleSet:
        """The first ``count`` (default all) entries of the held-out split."""
        dataset = build_dataset(self.recipe, "test")
        return sample_set(dataset, range(len(dataset) if count is None else min(count, len(dataset))))

    def evaluate(
        self,
        count: int = 1000,
        *,
        seed: int = 0,
        reference: SampleSet | None = None,
        report: Report | None = None,
        **options: Any,
    ) -> dict[str, Score]:
        """The recipe's metrics on ``count`` samples, conditioned as the held-out data is, and what the domain adds.

        Args:
            count: number of samples; of an autoencoder, held-out examples (at most all) encoded and decoded.
            seed: seed of the samples.
            reference: what to compare with (default: the whole held-out split).
            report: told the progress of the domain's own trials, where it makes some.
            options: as for :meth:`sample`.
        """
        reference = self.reference() if reference is None else reference
        return evaluate(self, count, seed, reference, report, options)

    def like(self, reference: SampleSet, count: int, **options: Any) -> SampleSet:
        """``count`` samples asked for the conditions of ``reference``: sample i for those of row i % len(reference).

        Of an autoencoder, which draws nothing: the first ``count`` rows (at most all) encoded and decoded.

        Args:
            reference: its conditions are asked for, sizes of masked states included.
            count: how many.
            options: as for :meth:`sample`; a ``condition`` of the caller's own has one row per sample.
        """
        return like(self, reference, count, options)

    def titles(self, samples: SampleSet) -> list[str] | None:
        """A title per sample for :meth:`Domain.draw`; None where their conditions say nothing."""
        return self.domain.describe_condition(samples.condition) or None

    def evaluate_objects(self, objects: Sequence[Any], reference: SampleSet | None = None) -> dict[str, Score]:
        """The recipe's metrics on native ``objects`` made elsewhere; those that need an unknown condition are left out.

        Objects that tell their case (a forecast's time, the name of a series) are compared with the held-out examples
        of these cases, in whatever order they come. Of others, metrics that compare each sample with its own case have
        a value where ``reference`` is given: sample i then belongs to its row i % n.

        Raises:
            AnydiffError: an object of no held-out case, cases with different numbers of samples, or no metric has a
                value.
        """
        return self.scores(*self.paired(objects, reference))

    def paired(self, objects: Sequence[Any], reference: SampleSet | None = None) -> tuple[SampleSet, SampleSet]:
        """Native ``objects`` as samples, and the rows of ``reference`` (default: the held-out data) they belong to.

        Objects that do not tell their case are taken in order where ``reference`` is given, equally many for each of
        its rows. Else the samples are :attr:`~anydiff.metrics.SampleSet.untold`.

        Raises:
            AnydiffError: an object of no held-out case, or cases with different numbers of samples.
        """
        return paired(self, objects, self.reference() if reference is None else reference, reference is not None)

    def scores(
        self, samples: SampleSet, reference: SampleSet, more: Mapping[str, Score] | None = None
    ) -> dict[str, Score]:
        """The recipe's metrics of ``samples`` against ``reference``, those left out whose conditions are not known."""
        return scores(self.recipe, samples, reference, more)

    def with_changes(self, changes: Sequence[str]) -> Pipeline:
        """This pipeline with other sampling defaults, metrics or help: ``["sampling.nfe=10"]``.

        Raises:
            AnydiffError: a change of anything the weights depend on; train for that.
        """
        for change in changes:
            if change.partition("=")[0].split(".")[0] not in ("sampling", "metrics", "help"):
                raise AnydiffError(f"{change!r} changes what the weights were trained for; train with it instead.")
        return replace(self, recipe=self.recipe.with_changes(changes))

    def save(self, path: str | Path, *, dtype: torch.dtype | None = None, overwrite: bool = False) -> None:
        """Write one self-describing safetensors file; ``dtype`` (float16, say) makes it smaller.

        Raises:
            AnydiffError: the file exists and ``overwrite`` is false, or a weight is too large for ``dtype``.
        """
        tensors = {
            name: tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
            for name, tensor in self.denoiser.network.state_dict().items()
        }
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise AnydiffError(
                    f"{name!r} holds values that {tensor.dtype} cannot hold; save as bfloat16 or float32."
                )
        needed = recorded_text(self.companions, Path(path).parent)
        metadata = {**self.metadata, **needed, "recipe": self.recipe.canonical(), "recipe_hash": self.recipe.hash}
        save_weights(path, tensors, metadata, overwrite)

    def conditioning(self, condition: Asked | None, count: int, guiding: Sequence[str] = ()) -> Conditioning:
        """What is asked for, of ``count`` rows: from text that the domain understands, lists or tensors by name.

        Beside the domain's conditions, those called ``guiding`` may be given: they are for guidance alone.

        Raises:
            AnydiffError: a condition is missing without which the network was never trained.
        """
        found = conditioning_of(self.domain, condition, count, guiding)
        require_conditions(self.recipe, self.denoiser.network, self.domain, found)
        return found


def _is_compiled(solver: object) -> TypeGuard[str]:
    """Whether ``solver`` is a name that compiles to a plan; an unknown one is refused where it is compiled."""
    return isinstance(solver, str) and solver not in registry().names("samplers")


def load(source: str | Path) -> Pipeline:
    """A pipeline from a recipe's bundled weights (``"images/fashion"``), a run folder, or a weights file.

    Nothing is downloaded and nothing in the file is executed. Models that the recipe needs (its ``latent``) are loaded
    with it: a relative name is sought beside the weights first.

    Raises:
        UnknownNameError: no such recipe.
        FileFormatError: the weights are truncated, foreign, or of another version.
        AnydiffError: the recipe has no bundled weights, or a model it needs is missing or another than it was trained
            with.
    """
    return load_pipeline(Pipeline, str(source))
