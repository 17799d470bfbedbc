"""Diffusion in the latent space of an autoencoder, for every domain: one line in the recipe, ``latent: images/codes``.

The network then sees latents; data are encoded on the way into training and samples decoded on the way out, so data
sets, files, pictures, conditions and metrics are the domain's own and know nothing of it. The autoencoder is a recipe
of its own, trained with the objective ``reconstruction``, and is named by its recipe, run folder or weights file.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.data.dataset import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.networks import Autoencoder
from anydiff.networks.layers import pad_to_multiple
from anydiff.states import Conditioning, Known, StateSpec
from anydiff.training import weights_hash

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline
    from anydiff.recipes.recipe import Recipe

MEASURED = 4096
"""Examples whose latents are brought to unit deviation."""
SEEN = 64
"""Examples whose latents tell their deviation."""
KEPT_BYTES = 256 << 20
"""Encoded latents that a data set keeps, in bytes; those used longest ago go first."""


class Space(ABC):
    """Where a model diffuses instead of on its domain's states: one face for an autoencoder and for an aggregate.

    Attributes:
        spec: of what is diffused.
    """

    spec: StateSpec

    @property
    @abstractmethod
    def identity(self) -> str:
        """A text that says what :meth:`to_latent` computes; data sets that are seen through it are hashed with it."""

    @abstractmethod
    def to_latent(self, states: Tensor) -> Tensor:
        """Latents float32 ``[B, *latent_shape]`` of states ``[B, *shape]``, each made alone: rows cannot mix."""

    @abstractmethod
    def to_data(self, latents: Tensor) -> Tensor:
        """States float32 ``[B, *shape]`` of latents ``[B, *latent_shape]``, each made alone."""

    @abstractmethod
    def decoded(self, latents: Tensor) -> Tensor:
        """As :meth:`to_data`, differentiable; ``latents`` are on the host, and at least one."""

    def known(self, known: Known) -> Known:
        """What known entries of states ``[B, *shape]`` say of the latents.

        Raises:
            AnydiffError: nothing can be said of them in this space.
        """
        raise AnydiffError(
            f"known entries are data, but this recipe diffuses in {type(self).__name__}, where nothing follows from "
            "them; use a recipe without latent."
        )

    @property
    def whole(self) -> StateSpec:
        """Of what a network is built for; the same unless the space is cut into positions."""
        return self.spec

    def condition(self, condition: Conditioning) -> Conditioning:
        """What stands beside states as it stands beside latents; as it is unless the space says otherwise."""
        return condition

    def beside(self, states: Tensor) -> Mapping[str, Tensor]:
        """What training is given beside the latents of ``states``, by name: the parts of an aggregate."""
        return {}


class Latent(Space):
    """The latent space of a domain's states.

    Args:
        domain: of the data.
        autoencoder: a trained one, on the domain's states.
        scale: the number that what it encodes is multiplied by, and that is taken back before it decodes.

    Attributes:
        spec: one leaf named ``latent``: numbers, or the codes of an autoencoder with a codebook.

    Raises:
        AnydiffError: the autoencoder was made for states of another shape, or codes are to be scaled.
    """

    def __init__(self, domain: Domain, autoencoder: Autoencoder, scale: float = 1.0) -> None:
        if tuple(autoencoder.shape) != tuple(domain.spec.shape):
            raise AnydiffError(
                f"the autoencoder was made for states of shape {tuple(autoencoder.shape)}, but the domain "
                f"{domain.name!r} has {tuple(domain.spec.shape)}; train one on this domain, or change latent."
            )
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.spec = StateSpec([autoencoder.latent_leaf])
        if scale != 1 and self.spec.categorical:
            raise AnydiffError(f"latent_scale is {scale:g}, but this autoencoder's latents are classes; leave it out.")
        self.scale = float(scale)

    @property
    def identity(self) -> str:
        """sha256 of the autoencoder's weights, with the scale where there is one."""
        weights = weights_hash(self.autoencoder.state_dict())
        return weights if self.scale == 1 else f"{weights} x {self.scale!r}"

    @torch.no_grad()
    def to_latent(self, states: Tensor) -> Tensor:
        """Latents ``[B, *latent_shape]`` of states ``[B, *shape]``, each made alone: rows cannot mix.

        Numbers are float32, codes int64.
        """
        rows = [self._scaled(self.autoencoder.encode(row[None].float().cpu())) for row in states]
        codes = self.spec.leaves[0].categorical
        empty = torch.empty(0, *self.spec.shape, dtype=torch.int64 if codes else torch.float32)
        return torch.cat([empty, *rows])

    def known(self, known: Known) -> Known:
        """The latents of the cells that are known whole.

        Entries that are not known are zero before they are encoded, so none of them reaches a latent, whatever stands
        there. A latent beside the border of the known entries is that of a picture with zeros there.
        """
        values = torch.where(known.mask, known.values, 0.0)
        whole = known.mask.cpu().all(dim=1, keepdim=True).float()  # over the channels
        factor, sizes = self.autoencoder.factor, self.autoencoder.latent_leaf.shape
        hidden = pad_to_multiple(1 - whole, factor)
        pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[hidden.ndim - 3]
        mask = pool(hidden, factor) == 0
        mask = mask[:, 0] if self.spec.categorical else mask.expand(-1, *sizes)
        return Known(self.to_latent(values), mask)

    @torch.no_grad()
    def to_data(self, latents: Tensor) -> Tensor:
        """States float32 ``[B, *shape]`` of latents ``[B, *latent_shape]``, each made alone."""
        self.spec.check(latents)
        return self.decoded(latents.cpu()) if len(latents) else torch.empty(0, *self.autoencoder.shape)

    def decoded(self, latents: Tensor) -> Tensor:
        """As :meth:`to_data`, differentiable; ``latents`` are on the host, and at least one."""
        rows = latents.float() / self.scale if latents.is_floating_point() else latents
        return torch.cat([self.autoencoder.decode(row[None]) for row in rows])

    def _scaled(self, latents: Tensor) -> Tensor:
        return latents if self.scale == 1 else latents * self.scale


def reconstruct(domain: Domain, autoencoder: Autoencoder, reference: SampleSet, count: int) -> SampleSet:
    """The first ``count`` samples of ``reference`` (at most all) encoded and decoded, by which it is judged."""
    rows = min(count, len(reference))
    space = Latent(domain, autoencoder)
    return SampleSet(
        space.to_data(space.to_latent(reference.states[:rows])), reference.condition.rows(slice(rows)), domain
    )


def no_sampling_options(recipe: str, options: Mapping[str, Any]) -> None:
    """Refuse options of a sampler where nothing is sampled.

    Raises:
        AnydiffError: one is given.
    """
    for name in ("nfe", "solver", "grid", "end", "guidance", "condition"):
        if options.get(name) is not None:
            raise AnydiffError(
                f"{recipe!r} is an autoencoder, whose reconstructions are evaluated: {name} has no meaning for it; "
                "leave it out."
            )


class LatentDataset(Dataset):
    """A data set seen in another space; each example is encoded once and kept, as far as ``kept_bytes`` allow.

    Args:
        inner: the data.
        latent: the space.
        kept_bytes: of encoded latents at most; beyond it examples are encoded again.
    """

    def __init__(self, inner: Dataset, latent: Space, kept_bytes: int = KEPT_BYTES) -> None:
        self.name = inner.name
        self.inner = inner
        self.latent = latent
        self._most = kept_bytes // ((8 if latent.spec.categorical else 4) * latent.spec.size)
        self._known: OrderedDict[int, Tensor] = OrderedDict()

    @property
    def domain(self) -> Domain:
        """The domain of the data."""
        return self.inner.domain

    @property
    def spec(self) -> StateSpec:
        """The layout of one latent."""
        return self.latent.spec

    @cached_property
    def hash(self) -> str:
        """sha256 of the data's hash and of what the space computes (an autoencoder's weights)."""
        return content_hash(f"{self.inner.hash}/{self.latent.identity}")

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """Latents and the data's own conditions, with what the space gives beside."""
        states, condition = self.inner.batch(indices)
        condition = self.latent.condition(condition)
        beside = self.latent.beside(states)
        if beside:
            condition = replace(condition, sources={**condition.sources, **beside})
        return torch.stack([self._encoded(index, states[row]) for row, index in enumerate(indices)]), condition

    def _encoded(self, index: int, state: Tensor) -> Tensor:
        latent = self._known.pop(index, None)
        if latent is None:
            latent = self.latent.to_latent(state[None])[0]
        self._known[index] = latent
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return latent


def latent_of(pipeline: Pipeline, source: str, domain: Domain, scale: float = 1.0) -> Latent:
    """The latent space of ``domain`` by the autoencoder in ``pipeline``, which was loaded from ``source``.

    Raises:
        AnydiffError: it is no autoencoder, or one of other states.
    """
    network = pipeline.denoiser.network
    if not isinstance(network, Autoencoder):
        raise AnydiffError(
            f"latent is {source!r}, which holds a {type(network).__name__}; name a recipe, run folder or weights file "
            "of the network 'autoencoder'."
        )
    return Latent(domain, network, scale)


def with_unit_scale(recipe: Recipe, dataset: Dataset, load: Callable[[str], Pipeline]) -> Recipe:
    """``recipe`` with a number in place of ``latent_scale: unit``: one over the deviation of training latents.

    The deviation is that of all numbers of the first :data:`MEASURED` examples, in float64; six digits are kept.

    Raises:
        AnydiffError: the latents are all one number, or classes.
    """
    if recipe.latent_scale != "unit":
        return recipe
    assert isinstance(recipe.latent, str)  # which the recipe has checked
    space = latent_of(load(recipe.latent), recipe.latent, dataset.domain)
    if space.spec.categorical:
        raise AnydiffError(f"latent_scale is 'unit', but latents of {recipe.latent!r} are classes; leave it out.")
    latents = LatentDataset(dataset, space).batch(range(min(MEASURED, len(dataset))))[0].double()
    deviation = float(latents.std())
    if not deviation > 0:
        raise AnydiffError(f"latents of {recipe.latent!r} do not vary over the training data; train it longer.")
    return recipe.model_copy(update={"latent_scale": float(f"{1 / deviation:.6g}")})


def warn_of_scale(dataset: LatentDataset, sigma_data: float) -> None:
    """Warn where latents are of another size than the recipe says, the usual reason why a latent model fails.

    Networks see states divided by a size that follows from ``sigma_data``, and losses are weighed by it; so the
    deviation of latents need not be 1, but must be known: within a factor of two.
    """
    if not isinstance(dataset.latent, Latent) or dataset.latent.spec.categorical:
        return
    deviation = float(dataset.batch(range(min(SEEN, len(dataset))))[0].double().std())
    if not 0.5 <= deviation / sigma_data <= 2:
        warnings.warn(
            f"latents of {dataset.name!r} have a deviation of {deviation:.3g}, but the recipe says sigma_data="
            f"{sigma_data:g}, so noise levels and inputs are of another size than the network is made for; set "
            f"sigma_data={deviation:.3g}, or latent_scale=unit and sigma_data=1.",
            stacklevel=3,
        )
