"""What a user holds: a trained recipe that samples, evaluates, saves and loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydiff.autoregressive import BlockPlan
from anydiff.calibration import Artefact
from anydiff.denoisers import NetworkDenoiser
from anydiff.domains import Domain, Report, Reward
from anydiff.metrics import SampleSet, Score
from anydiff.pipeline.aggregate import space_of
from anydiff.pipeline.calibration import calibrated
from anydiff.pipeline.companions import companions_of, joint_hash
from anydiff.pipeline.conditions import Asked, conditioning_of, number_of_cases, require_conditions
from anydiff.pipeline.edit import edit, invert
from anydiff.pipeline.evaluate import evaluate, like, paired, scores
from anydiff.pipeline.latent import Space
from anydiff.pipeline.likelihood import bound, ode_inputs, require_density
from anydiff.pipeline.load import load_pipeline
from anydiff.pipeline.optimise import Optimised, optimise
from anydiff.pipeline.positions import ordered
from anydiff.pipeline.refinement import refined_by, refinement_of
from anydiff.pipeline.restore import Restoration, restored
from anydiff.pipeline.samplers import SolverLike, plan_of, sampler_of
from anydiff.pipeline.sampling import SampleOptions, member_rows, objects_per_case, sample_states
from anydiff.pipeline.save import save_pipeline, with_harmless_changes
from anydiff.recipes import Recipe
from anydiff.recipes.build import build_dataset, build_denoiser, build_domain, sample_set
from anydiff.samplers import AdaptiveODE, Sampler
from anydiff.solvers import Plan
from anydiff.states import Conditioning
from anydiff.training import weights_hash


@dataclass
class Pipeline:
    """A recipe with a denoiser. Make one with :func:`load`.

    Attributes:
        recipe: the complete experiment.
        denoiser: E[x_0 | x_t], in evaluation mode.
        domain: the codec between states and the field's own objects.
        metadata: where the weights come from.
        companions: role -> every other model that this one needs: ``latent`` it diffuses in, ``refines`` it refines.
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
        """A pipeline with freshly initialised weights; ``companions`` are loaded by name where none are given."""
        domain = build_domain(recipe)
        found = companions_of(recipe, load) if companions is None else dict(companions)
        latent, _ = space_of(recipe, domain, found), refinement_of(recipe, domain, found)  # either may be refused
        denoiser = build_denoiser(recipe, domain, None if latent is None else latent.spec).eval()
        return cls(recipe, denoiser, domain, companions=found)

    @cached_property
    def latent(self) -> Space | None:
        """The space that is diffused in: an autoencoder's, an aggregate, positions; None where it is the data's own."""
        return ordered(self.domain, self.denoiser.order, space_of(self.recipe, self.domain, self.companions))

    @property
    def weights_hash(self) -> str:
        """sha256 (hex) of all parameters and buffers, by name, and of the models that this one needs."""
        return joint_hash(weights_hash(self.denoiser.network.state_dict()), self.companions)

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.denoiser.parameters())

    def sampler(self, nfe: int | None = None, solver: SolverLike = None, **options: Any) -> Sampler:
        """The sampler that :meth:`sample` would use; ``options`` are grid, end, guidance (the recipe's by default)
        and the solver's own, refused beside a Plan or Sampler, which hold theirs, or where no solver is named."""
        return sampler_of(self, nfe, solver, options)

    def plan(self, nfe: int | None = None, solver: SolverLike = None, **options: Any) -> Plan | BlockPlan:
        """The plan of :meth:`sample` (of all groups, where the network has an order); refused where there is none."""
        return plan_of(self.sampler(nfe, solver, **options), solver)

    def sample_set(self, count: int | Sequence[int] | None = None, **options: Any) -> SampleSet:
        """Samples as states with their conditions; arguments as for :meth:`sample`."""
        return sample_states(self, count, SampleOptions.of(options))

    def sample(self, count: int | Sequence[int] | None = None, **options: Any) -> Any:
        """Draw samples as the field's own objects.

        Args:
            count: how many (default: as in ``start``), or their indices; sample k of a seed is the same in every set.
            options: the fields of :class:`SampleOptions`, which explains them; ``grid``, ``end`` and the solver's own.
        """
        samples = self.sample_set(count, **options)
        return self.domain.decode(samples.states, samples.condition)

    def ensemble_set(
        self, members: int | Sequence[int], condition: Asked, *, cases: int | None = None, **options: Any
    ) -> SampleSet:
        """``members`` samples for each case of ``condition`` as states: row i is member i // n of case i % n.

        Member j of case c has the sample index j n + c, so asking for more members gives the same ones. ``members`` are
        how many per case, or their numbers; ``condition`` has one row per case, whose number ``cases`` is needed where
        it is text alone; ``options`` are those of :meth:`sample`. Refused are conditions of different numbers of rows.
        """
        count = number_of_cases(condition, cases)
        return self.sample_set(member_rows(members, count), condition=condition, cases=count, **options)

    def ensemble(
        self, members: int | Sequence[int], condition: Asked, *, cases: int | None = None, **options: Any
    ) -> list[list[Any]]:
        """``members`` samples for each case of ``condition`` as native objects, one list per case; arguments as for
        :meth:`ensemble_set`; ``members_per_case`` gives the same as one tensor."""
        samples = self.ensemble_set(members, condition, cases=cases, **options)
        return objects_per_case(samples, number_of_cases(condition, cases))

    def restore(self, measurement: Any, **options: Any) -> list[list[Any]]:
        """``members`` samples of which each measurement was made, as native objects, one list per case.

        ``measurement`` is numbers in the field's units, or a file; ``options`` are the fields of
        :class:`anydiff.pipeline.restore.Restoration` (``operator``, ``noise``, ``method``, ``members``, ``mask``, ...)
        and those of :meth:`sample`.
        """
        samples, cases, _ = restored(self, measurement, Restoration.of(options))
        return objects_per_case(samples, cases)

    def optimise(self, reward: Reward, count: int | Sequence[int] = 16, **options: Any) -> Optimised:
        """Samples with a higher ``reward``; :func:`anydiff.pipeline.optimise.optimise` says all."""
        return optimise(self, reward, count, options)

    def calibrate(self, method: str = "dc", **options: Any) -> Artefact:
        """What a solver learns for this model; options as :func:`anydiff.pipeline.calibration.calibrated` says."""
        return calibrated(self, method, options)

    def encode(
        self, objects: Sequence[Any], *, condition: Asked | None = None, ode: AdaptiveODE | None = None, **options: Any
    ) -> Tensor:
        """Latents x_T ``[B, *shape]`` (float64) of native ``objects``: the states that flow to them.

        ``AdaptiveODE().decode(pipeline.denoiser, latents)`` is the way back, ``sample(start=latents)`` the same by a
        plan. Unguided unless ``guidance`` is given. ``condition`` is as for :meth:`sample`, ``ode`` the solver with its
        tolerances, ``options`` are those of :meth:`AdaptiveODE.encode`.
        """
        denoiser, states, options = ode_inputs(self, objects, condition, options)
        return (ode or AdaptiveODE()).encode(denoiser, states, **options)

    def log_likelihood(
        self, objects: Sequence[Any], *, condition: Asked | None = None, ode: AdaptiveODE | None = None, **options: Any
    ) -> Tensor:
        """log p ``[B]`` (float64, nats) of native ``objects`` as states; quantised ones (pictures) need dequantisation.

        Not for states with masked or symmetric leaves, whose entries are fewer than they seem. Arguments as for
        :meth:`encode`; ``options`` are those of :meth:`AdaptiveODE.log_likelihood`: ``trace``, say.
        """
        require_density(self.domain)
        denoiser, states, options = ode_inputs(self, objects, condition, options)
        return (ode or AdaptiveODE()).log_likelihood(denoiser, states, **options)

    bound, edit, invert, refinement = bound, edit, invert, cached_property(refined_by)

    def reference(self, count: int | None = None) -> SampleSet:
        """The first ``count`` (default all) entries of the held-out split."""
        dataset = build_dataset(self.recipe, "test")
        return sample_set(dataset, range(len(dataset) if count is None else min(count, len(dataset))))

    def evaluate(
        self, count: int = 1000, *, seed: int = 0, reference: SampleSet | None = None, report: Report | None = None,
        **options: Any,
    ) -> dict[str, Score]:  # fmt: skip
        """The recipe's metrics on ``count`` samples, conditioned as the held-out data is, and what the domain adds.

        Of an autoencoder, ``count`` held-out examples (at most all) are encoded and decoded instead. ``reference`` is
        what to compare with (default: the held-out split), ``report`` is told the progress of the domain's own trials.
        """
        return evaluate(self, count, seed, self.reference() if reference is None else reference, report, options)

    def like(self, reference: SampleSet, count: int, **options: Any) -> SampleSet:
        """``count`` samples asked for the conditions of ``reference``: sample i for those of row i % len(reference).
        Of an autoencoder: the first rows, encoded and decoded. An own ``condition`` has one row per sample."""
        return like(self, reference, count, options)

    def titles(self, samples: SampleSet) -> list[str] | None:
        """A title per sample for :meth:`Domain.draw`; None where their conditions say nothing."""
        return self.domain.describe_condition(samples.condition) or None

    def evaluate_objects(self, objects: Sequence[Any], reference: SampleSet | None = None) -> dict[str, Score]:
        """The recipe's metrics on native ``objects`` made elsewhere, paired as :meth:`paired` says and refuses; those
        that need an unknown condition are left out, and what no metric has a value of is refused."""
        return self.scores(*self.paired(objects, reference))

    def paired(self, objects: Sequence[Any], reference: SampleSet | None = None) -> tuple[SampleSet, SampleSet]:
        """Native ``objects`` as samples, and the rows of ``reference`` (default: the held-out data) they belong to.

        Objects that tell their case come in whatever order. Others are taken in order where ``reference`` is given:
        sample i belongs to its row i % n. Else the samples are :attr:`~anydiff.metrics.SampleSet.untold`. Refused are
        an object of no held-out case, and cases with different numbers of samples.
        """
        return paired(self, objects, self.reference() if reference is None else reference, reference is not None)

    def scores(
        self, samples: SampleSet, reference: SampleSet, more: Mapping[str, Score] | None = None
    ) -> dict[str, Score]:
        """The recipe's metrics of ``samples`` against ``reference``, those left out whose conditions are not known."""
        return scores(self.recipe, samples, reference, more)

    def with_changes(self, changes: Sequence[str]) -> Pipeline:
        """With other sampling defaults, metrics or help (``["sampling.nfe=10"]``); other changes need a training."""
        return replace(self, recipe=with_harmless_changes(self.recipe, changes))

    def save(self, path: str | Path, *, dtype: torch.dtype | None = None, overwrite: bool = False) -> None:
        """Write one self-describing safetensors file; ``dtype`` (float16, say) makes it smaller.
        Refused where the file exists (unless ``overwrite``), or a weight is too large for ``dtype``."""
        save_pipeline(self, Path(path), dtype, overwrite)

    def conditioning(self, condition: Asked | None, count: int, guiding: Sequence[str] = ()) -> Conditioning:
        """What is asked for, of ``count`` rows: from text that the domain understands, lists or tensors by name.

        Beside the domain's conditions, those called ``guiding`` may be given: they are for guidance alone. Refused is a
        request without a condition that the network was never trained without.
        """
        found = conditioning_of(self.domain, condition, count, guiding)
        require_conditions(self.recipe, self.denoiser.network, self.domain, found)
        return found


def load(source: str | Path) -> Pipeline:
    """A pipeline from bundled weights (``"images/fashion"``), a run, a weights file, or ``"diffusers:FOLDER"``.

    Nothing is downloaded and nothing in the file is executed. Models that the recipe needs (its ``latent``) are loaded
    with it: a relative name is sought beside the weights first.

    Raises:
        UnknownNameError: no such recipe.
        FileFormatError: the weights are truncated, foreign, or of another version.
        AnydiffError: the recipe has no bundled weights, or a model it needs is missing or not the one of its training.
    """
    return load_pipeline(Pipeline, str(source))
