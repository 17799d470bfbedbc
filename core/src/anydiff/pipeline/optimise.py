"""Guided optimisation: samples of a trained model with a higher reward, round by round, made of what the model knows.

Guo et al. 2024 (arXiv 2404.14743), algorithm 1, as surveyed by Chen et al. 2024 (arXiv 2404.07771). Round 0 are samples
as they come. In every further round each sample k has g_k, the gradient of the reward f at its state z_k of the round
before, and is drawn anew with g_k·x_0 asked to be y_k: ``gain`` more than g_k·z_k, or what takes a linear f to
``target``. For concave f and Gaussian data N(μ, S) the rounds come to rest where f(x) - (x - μ)ᵀ S^-1 (x - μ)/(2 η) is
greatest, η set by how much is asked for: a regularised optimum, since the model is the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.denoisers.wrappers import Wrapper
from anydiff.domains.rewards import Reward, own_units, reward_and_gradient, reward_name, reward_of
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.guidance import LookAhead, NaiveGradient
from anydiff.guidance.gradient import VARIANCES
from anydiff.metrics import SampleSet
from anydiff.pipeline.fixed import require_free, require_whole
from anydiff.pipeline.sampling import Draws, SampleOptions
from anydiff.states import derived_seed

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

Target = float | Callable[[Tensor, Tensor], Tensor]
"""A reward to reach, or ``(states [B, *shape], gradients [B, *shape]) -> [B]``: what g·x_0 is asked to be."""
FORMS = ("look-ahead", "naive")


@dataclass(frozen=True)
class Round:
    """What is told of each round.

    Attributes:
        number: 0 for the samples as they come.
        of: how many rounds there will be after round 0.
        rewards: of each sample ``[B]``.
    """

    number: int
    of: int
    rewards: Tensor


@dataclass(frozen=True)
class Ascent:
    """How much each round asks for, and how: the options of :func:`optimise_states`.

    Attributes:
        rounds: how many after the samples as they come, at least 1.
        gain: by how much more reward each round asks, in the reward's units, above 0; or else ``target``.
        target: the reward to reach, in its units, or a function that says what g·x_0 is asked to be.
        noise_std: how loosely it is asked for, in the reward's units, above 0: by default half of what is asked for.
        by: ``look-ahead``, through the network, which keeps to what the model knows; or ``naive``, which does not.
        variance: of look-ahead: ``exact`` or ``published`` (:class:`~anydiff.guidance.LookAhead`).

    Raises:
        AnydiffError: a number is missing, wrong, or given twice.
        UnknownNameError: no such form or variance.
    """

    rounds: int = 5
    gain: float | None = None
    target: Target | None = None
    noise_std: float | None = None
    by: str = "look-ahead"
    variance: str = "exact"

    def __post_init__(self) -> None:
        natural_number("rounds", self.rounds)
        if (self.gain is None) == (self.target is None):
            found = "neither gain nor target is" if self.gain is None else "both gain and target are"
            raise AnydiffError(
                f"{found} given; give gain, how much more reward each round asks for, or target, the reward to reach."
            )
        if self.target is not None and not callable(self.target):
            _finite("target", self.target)
        if callable(self.target) and self.noise_std is None:
            raise AnydiffError("noise_std is missing; a target that is a function needs it, in the reward's units.")
        for name, advice in (("gain", "for less of a reward negate it"), ("noise_std", "try half of the gain")):
            value = getattr(self, name)
            if value is not None and not _finite(name, value) > 0:
                raise AnydiffError(f"{name} is {value:g}, but must be above 0; {advice}.")
        if self.by not in FORMS:
            raise UnknownNameError("form of guided optimisation", self.by, FORMS)
        if self.variance not in VARIANCES:
            raise UnknownNameError("variance of look-ahead guidance", self.variance, VARIANCES)

    def guidance(self, states: Tensor, rewards: Tensor, gradient: Tensor, samples: Sequence[int]) -> Wrapper:
        """What the next round is guided by, given the last one's states, rewards and gradients."""
        along = (gradient.double() * states.double()).flatten(1).sum(1)
        if self.gain is not None:
            asked, noise = along + self.gain, torch.full_like(along, self.gain / 2)
        elif callable(self.target):
            asked, noise = _target(self.target(states, gradient), along), torch.ones_like(along)
        else:
            assert self.target is not None
            missing = self.target - rewards.double()
            # A sample that is there already is asked to stay, not held fast.
            asked, noise = along + missing, (missing.abs() / 2).clamp_min(1e-6 * max(1.0, abs(self.target)))
        if self.noise_std is not None:
            noise = torch.full_like(along, self.noise_std)
        if self.by == "naive":
            return NaiveGradient(gradient, asked, noise, tuple(samples))
        return LookAhead(gradient, asked, noise, tuple(samples), self.variance)


@dataclass(frozen=True)
class Optimised:
    """Samples of the last round, and the rewards of all.

    Attributes:
        samples: states with their conditions.
        rewards: ``[rounds + 1, B]``: row 0 of the samples as they come.
    """

    samples: SampleSet
    rewards: Tensor

    @property
    def objects(self) -> list[Any]:
        """The samples as the field's own objects."""
        return self.samples.domain.decode(self.samples.states, self.samples.condition)


def optimise_states(
    draw: Callable[[int, Wrapper | None], Tensor],
    reward: Reward,
    ascent: Ascent,
    samples: Sequence[int],
    *,
    values: Callable[[Tensor, slice], Tensor] | None = None,
    batch_size: int = 256,
    report: Callable[[Round], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """States ``[B, *shape]`` of the last round and rewards ``[rounds + 1, B]`` of all, of anything that draws states.

    Sample k depends on its own streams, rewards and gradients alone.

    Args:
        draw: ``(number of the round, guidance or None) -> states``, from random numbers of that round.
        reward: of values, one number per row.
        ascent: how much is asked for.
        samples: the index of each row in its sample set.
        values: ``(some states, which rows they are) -> values`` that the reward is of; by default the states.
        batch_size: rows that are differentiated at once.
        report: told each round.

    Raises:
        AnydiffError: the reward is no differentiable, finite number per row.
    """
    name = reward_name(reward)

    def measured(states: Tensor) -> tuple[Tensor, Tensor]:
        parts = []
        for begin in range(0, len(states), batch_size):
            rows = slice(begin, begin + batch_size)

            def own(part: Tensor, rows: slice = rows) -> Tensor:
                return reward_of(reward, part if values is None else values(part, rows))

            parts.append(reward_and_gradient(own, states[rows], name))
        rewards, gradients = zip(*parts, strict=True)
        return torch.cat(rewards), torch.cat(gradients)

    states, guidance, history = draw(0, None), None, []
    for number in range(ascent.rounds + 1):
        states = draw(number, guidance) if number else states
        rewards, gradient = measured(states)
        history.append(rewards.cpu())
        if report is not None:
            report(Round(number, ascent.rounds, rewards))
        guidance = ascent.guidance(states, rewards, gradient, samples)
    return states, torch.stack(history)


def optimise(pipeline: Pipeline, reward: Reward, count: int | Sequence[int], options: Mapping[str, Any]) -> Optimised:
    """Samples of a pipeline that the model finds plausible and that have a higher reward: :meth:`Pipeline.optimise`.

    Round 0 are the samples of :meth:`Pipeline.sample`; sample k is the same in every set and for every ``batch_size``.

    Args:
        pipeline: the model.
        reward: of torch operations, from values ``[B, *shape]`` to ``[B]``, more is better, each row of its own values
            alone: in the field's units where the domain has some (:class:`~anydiff.domains.HasUnits`), else of states.
        count: how many, or the indices themselves, each once.
        options: the fields of :class:`Ascent`; ``report``, a function that is told each :class:`Round`; and those of
            :meth:`Pipeline.sample`, whose ``guidance`` goes inside.

    Raises:
        AnydiffError: neither or both of gain and target are given; an index twice; the reward is no differentiable
            number per row, or not finite; or what sampling refuses.
    """
    require_free(pipeline, "guided optimisation")
    require_whole(pipeline, "guided optimisation")
    own = {each.name for each in fields(Ascent)}
    ascent = Ascent(**{name: value for name, value in options.items() if name in own})
    report: Callable[[Round], None] | None = options.get("report")
    asked = SampleOptions.of({name: value for name, value in options.items() if name not in {*own, "report"}})
    if not callable(reward):
        raise AnydiffError(f"reward is {reward!r}, but must be a function of values [B, *shape] that gives [B].")
    draws = Draws.of(pipeline, count, asked)
    samples = list(range(draws.rows)) if isinstance(count, int) else list(count)
    if len(set(samples)) < len(samples):
        again = next(index for index in samples if samples.count(index) > 1)
        raise AnydiffError(f"count names sample {again} twice; name each sample once, since each has one gradient.")
    latent, told = pipeline.latent, draws.told

    def draw(number: int, guidance: Wrapper | None) -> Tensor:
        seed = asked.seed if number == 0 else derived_seed(asked.seed, f"round {number} of guided optimisation")
        return draws.states(seed, [] if guidance is None else [guidance])

    def values(states: Tensor, rows: slice) -> Tensor:
        data = states if latent is None else latent.decoded(states.cpu())
        return own_units(pipeline.domain, data, told.rows(rows).to(data.device))

    states, rewards = optimise_states(
        draw, reward, ascent, samples, values=values, batch_size=asked.batch_size, report=report
    )
    return Optimised(draws.finished(states), rewards)


def _target(asked: Any, like: Tensor) -> Tensor:
    """What a target gave, one finite number per row."""
    if not isinstance(asked, Tensor) or asked.shape != like.shape or not bool(asked.isfinite().all()):
        found = list(asked.shape) if isinstance(asked, Tensor) else type(asked).__name__
        raise AnydiffError(f"target gave {found}, but must give one finite number per row, a tensor [{len(like)}].")
    return asked.detach().to(like)


def _finite(name: str, value: Any) -> float:
    """``value`` as a number.

    Raises:
        AnydiffError: it is none, or not finite.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not torch.isfinite(torch.tensor(float(value))):
        raise AnydiffError(f"{name} is {value!r}, but must be a finite number, in the reward's units.")
    return float(value)
