"""Rewards as a condition, for reward-directed training: a reward found on few labelled data labels all the others.

Yuan et al. 2023, "Reward-directed conditional diffusion" (arXiv 2307.07055), as surveyed by Chen et al. 2024
(arXiv 2404.07771): f is fitted to the labelled data; every other example x is labelled f(x) + ξ, ξ ~ N(0, ν²); a
conditional model is trained, and asked for the reward one wants. ν > 0 keeps the conditional score smooth: without
noise p(x | y) lies on a surface.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from anydiff.data.dataset import Dataset
from anydiff.domains import Domain, NamesCases, Reward, own_units, reward_of
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning, VectorCondition, standard_normal

NAME = "reward"
"""The condition's name."""
STATISTICS = ("reward_mean", "reward_std")

D = TypeVar("D", bound=Domain)


class _Rewarded:
    """What a rewarded domain has more than its base, which comes after this class among its bases."""

    reward_mean: float
    reward_std: float

    @property
    def conditions(self) -> dict[str, Any]:
        """Those of the base, and ``reward``."""
        own: Any = vars(self).get("conditions", super().conditions)  # type: ignore[misc]
        return {**own, NAME: VectorCondition(1)}

    @property
    def codec(self) -> dict[str, Any]:
        """That of the base, and the statistics of the reward."""
        own: Mapping[str, Any] = super().codec  # type: ignore[misc]
        return {**own, **{name: getattr(self, name) for name in STATISTICS}}

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"reward": "3.5"}``: the reward to have, in its units; all else is the base's."""
        rest = {name: value for name, value in text.items() if name != NAME}
        found: dict[str, Tensor] = super().parse_condition(rest, count)  # type: ignore[misc]
        if NAME not in text:
            return found
        try:
            asked = float(text[NAME])
        except ValueError:
            asked = math.nan
        if not math.isfinite(asked):
            raise AnydiffError(f"{NAME} is {text[NAME]!r}, but must be a finite number, in the reward's units.")
        return {**found, NAME: torch.full((count, 1), (asked - self.reward_mean) / self.reward_std)}


class _RewardedCases(_Rewarded):
    """The same, of a domain whose conditions may name cases: a reward names none."""

    def labels(self, text: Mapping[str, str]) -> list[Any] | None:
        """Those that the other conditions name."""
        rest = {name: value for name, value in text.items() if name != NAME}
        found: list[Any] | None = super().labels(rest) if rest else None  # type: ignore[misc]
        return found


def rewarded(domain: D, reward_mean: float = 0.0, reward_std: float = 1.0) -> D:
    """``domain`` with one condition more, ``reward``, which a user writes as a number in the reward's own units.

    Networks are told (reward - mean)/std, ``[B, 1]``. ``domain`` itself stays as it is.

    Args:
        domain: of states without rewards.
        reward_mean: of the rewards of the training data, in the reward's units.
        reward_std: their standard deviation, above 0.

    Raises:
        AnydiffError: the domain has a condition of this name, or a statistic is wrong.
    """
    if NAME in domain.conditions:
        raise AnydiffError(f"domain {domain.name!r} has a condition {NAME!r} already; rename that one.")
    if not (math.isfinite(reward_mean) and 0 < reward_std < math.inf):
        raise AnydiffError(
            f"reward_mean is {reward_mean} and reward_std {reward_std}, but they must be finite, the latter above 0."
        )
    base = type(domain)
    more = {"condition_help": {**base.condition_help, NAME: "NUMBER"}}
    # A subclass of the domain's own class, so that it keeps whatever protocols that fulfils.
    made: Any = object.__new__(type(f"Rewarded{base.__name__}", (_mixin(domain), base), more))
    made.__dict__.update(vars(domain))
    made.reward_mean, made.reward_std = float(reward_mean), float(reward_std)
    found: D = made
    return found


def _mixin(domain: Domain) -> type[Any]:
    return _RewardedCases if isinstance(domain, NamesCases) else _Rewarded


class PseudoLabelled(Dataset):
    """A data set whose examples have the condition ``reward``: f(x) + ν ξ, the same for ever.

    A recipe of it names two functions of a plugin's own: ``domain`` builds :func:`rewarded`, ``dataset`` builds this,
    and training puts mean and deviation of the labels into both. ``anydiff sample RUN --condition reward=3`` asks.

    Args:
        dataset: examples without rewards.
        reward: f, of the values that :func:`~anydiff.domains.own_units` gives, one finite number per row; learnt from
            the few examples whose true reward is known.
        noise_std: ν > 0, in the reward's units; of the order of f's own error.
        seed: of ξ.
        reward_mean: of the labels of the training data; with ``reward_std`` None for those of this data set.
        reward_std: their standard deviation.

    Raises:
        AnydiffError: f is no reward, ν is not above 0, or all labels are equal.
    """

    def __init__(
        self,
        dataset: Dataset,
        reward: Reward,
        noise_std: float,
        seed: int = 0,
        reward_mean: float | None = None,
        reward_std: float | None = None,
    ) -> None:
        if not 0 < noise_std < math.inf:
            raise AnydiffError(
                f"noise_std is {noise_std}, but must be above 0, in the reward's units: labels without noise have no "
                "smooth conditional law."
            )
        self.inner, self.reward, self.noise_std, self.seed = dataset, reward, float(noise_std), seed
        self.name = dataset.name
        self._given = (reward_mean, reward_std)

    @cached_property
    def labels(self) -> Tensor:
        """The pseudo-labels in the reward's units, float64 ``[N]``."""
        found = []
        for begin in range(0, len(self.inner), 1024):
            rows = range(begin, min(begin + 1024, len(self.inner)))
            states, condition = self.inner.batch(rows)
            with torch.no_grad():
                values = reward_of(self.reward, own_units(self.inner.domain, states, condition))
            noise = torch.from_numpy(standard_normal(self.seed, rows, 0, "pseudo-label", ()))
            found.append(values.double().cpu() + self.noise_std * noise)
        return torch.cat(found)

    @cached_property
    def domain(self) -> Domain:
        """The data set's own, with the condition ``reward``."""
        mean, std = self._given
        if mean is None or std is None:
            mean, std = (float(f"{value:.6g}") for value in (self.labels.mean(), self.labels.std()))
        return rewarded(self.inner.domain, mean, std)

    @property
    def statistics(self) -> Mapping[str, Any]:
        """Those of the data set, and mean and deviation of the labels."""
        return {**self.inner.statistics, **{name: self.domain.codec[name] for name in STATISTICS}}

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """As the data set's, with ``reward``, (label - mean)/std ``[B, 1]``, among what is given."""
        states, condition = self.inner.batch(indices)
        mean, std = (self.domain.codec[name] for name in STATISTICS)
        asked = (self.labels[torch.as_tensor(list(indices), dtype=torch.int64)] - mean) / std
        return states, condition.with_given(**{NAME: asked.float()[:, None]})

    def case_labels(self, indices: Sequence[int]) -> list[Any] | None:
        """Those of the data set."""
        return self.inner.case_labels(indices)
