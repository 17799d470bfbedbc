"""Several parts of a sample in one diffusion: MT-Diffusion (ICLR 2024, arXiv 2407.17571).

The parts x_i of a sample (a picture and its label) are the leaves of its state. Fixed encoders bring them into one
space, z = Σ_i w_i E_i(x_i), in which an ordinary diffusion runs; a network predicts the noise and, from the same
features, every part. Each part has dimensions of its own: where two share some, z does not tell them apart, and what is
asked for by one part comes out in the wrong proportions. So parts are read back from z by the encoders alone.

In training and sampling a part stands beside the states as a source of its name (:meth:`Aggregate.beside`): a part of
classes as class numbers, another as its share E_i(x_i) of the space. The head of the part gives the same: logits, or a
share. A part that is given when samples are drawn is clamped in every prediction of z (:class:`ReadOut`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, converted
from anydiff.domains import Domain
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline.encoders import Encoder, codes, overlap
from anydiff.pipeline.latent import Space, latent_of
from anydiff.recipes import Aggregation, PartSettings, Recipe
from anydiff.states import UNCONDITIONAL, Conditioning, Known, Leaf, StateSpec

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


ReadOutName = Literal["noise", "heads"]
CLAMPED = (
    "a part is known and clamped, but the others are not drawn from their exact law given it: the network sees it "
    "noised, so what settles at a higher noise level than the known part can be read at is not taken back. A picture "
    "for a label comes out well; a label for a picture does so in part alone, more often with repeats (--solver ddpm "
    "--option repeats=20)."
)


class Aggregate(Space):
    """z = Σ_i w_i E_i(x_i) of the leaves of a state, on the face of an autoencoder's latent space.

    Args:
        data: the leaves of a state; each is a part.
        encoders: one per part.
        shape: of the space.

    Attributes:
        spec: one leaf named ``latent``.

    Raises:
        AnydiffError: parts that share dimensions.
    """

    def __init__(self, data: StateSpec, encoders: Sequence[Encoder], shape: Sequence[int]) -> None:
        self.data, self.spec = data, StateSpec([Leaf("latent", tuple(shape))])
        self.encoders = {each.name: each for each in encoders}
        if [*self.encoders] != [*data.names] or len(encoders) != len(data.names):
            raise AnydiffError(
                f"the parts are {', '.join(each.name for each in encoders)}, but the states hold "
                f"{', '.join(data.names)}; name each of these once, in this order."
            )
        for place, one in enumerate(encoders):
            for two in encoders[place + 1 :]:
                if overlap(one, two) > 1e-9:
                    raise AnydiffError(
                        f"the parts {one.name!r} and {two.name!r} share dimensions of the space, so neither follows "
                        "from their sum; give each its own."
                    )

    @property
    def identity(self) -> str:
        """Every encoder with its weight."""
        return repr([(e.name, e.weight, e.first, None if e.matrix is None else e.matrix.tolist()) for e in self._all])

    @property
    def _all(self) -> list[Encoder]:
        return list(self.encoders.values())

    def to_latent(self, states: Tensor) -> Tensor:
        """z float32 ``[B, *latent_shape]`` of states ``[B, *shape]``."""
        leaves = self.data.unpack(states.float().cpu().contiguous())
        return self.joined({name: encoder.encode(leaves[name]) for name, encoder in self.encoders.items()})

    def to_data(self, latents: Tensor) -> Tensor:
        """States float32 ``[B, *shape]`` of z, each part by its own encoder; a part of classes is one-hot."""
        self.spec.check(latents)
        return self.decoded(latents.float().cpu())

    def decoded(self, latents: Tensor) -> Tensor:
        """As :meth:`to_data`; differentiable but for parts of classes."""
        flat = latents.flatten(1)
        return self.data.pack({name: each.values(flat / each.weight) for name, each in self.encoders.items()})

    def beside(self, states: Tensor) -> Mapping[str, Tensor]:
        """Each part by its name as heads give it: classes int64 ``[B]``, else its share ``[B, *latent_shape]``."""
        leaves = self.data.unpack(states.float().cpu().contiguous())
        return {name: self._told(encoder, leaves[name]) for name, encoder in self.encoders.items()}

    def _told(self, encoder: Encoder, values: Tensor) -> Tensor:
        return values.argmax(1) if encoder.classes else self._shaped(encoder.encode(values))

    def given(self, known: Known) -> dict[str, Tensor]:
        """The parts that known entries of states are, as :meth:`beside` gives them.

        Raises:
            AnydiffError: a part is known in some entries or rows alone.
        """
        values = self.data.unpack(torch.where(known.mask, known.values, 0.0).float().contiguous())
        masks = self.data.unpack(known.mask.contiguous())
        found = {}
        for name, encoder in self.encoders.items():
            if bool(masks[name].all()):
                found[name] = self._told(encoder, values[name])
            elif bool(masks[name].any()):
                raise AnydiffError(
                    f"some entries of the part {name!r} are known and others are not, but parts are aggregated whole; "
                    "give all of it, in every sample, or nothing."
                )
        return found

    def joined(self, shares: Mapping[str, Tensor]) -> Tensor:
        """Σ_i w_i s_i ``[B, *latent_shape]`` of the shares ``[B, size]``."""
        weighted = [share * self.encoders[name].weight for name, share in shares.items()]
        return self._shaped(sum(weighted[1:], weighted[0]))

    def share(self, name: str, told: Tensor, like: Tensor) -> Tensor:
        """E_i ``[B, size]`` of a part as :meth:`beside` or a head tells it: classes, logits, or a share."""
        encoder = self.encoders[name]
        if not encoder.classes:
            return encoder.projected(told.to(like).flatten(1))
        if told.is_floating_point():  # the mean over the classes, not the likeliest: D is a mean
            return encoder.encode(told.softmax(-1).to(like))
        return encoder.encode(torch.nn.functional.one_hot(told.to(like.device), encoder.shape[0]).to(like))

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.reshape(-1, *self.spec.shape)


class ReadOut(Denoiser):
    """E[z | z_t] of an aggregate as its parts are read, those that are given in place.

    ``noise``: the network's own prediction, in which the share of a given part is replaced. ``heads``: Σ_i w_i E_i(x̂_i)
    with what the heads read, and x_i where it is given; for heads that are exact both are the same.

    Args:
        inner: a network with a head of each part's name (for ``heads``).
        aggregate: its space.
        read_out: which of the two.
    """

    native_kind = "data"

    def __init__(self, inner: Denoiser, aggregate: Aggregate, read_out: ReadOutName = "noise") -> None:
        if read_out not in get_args(ReadOutName):
            raise UnknownNameError("read_out", str(read_out), get_args(ReadOutName))
        self.inner, self.aggregate, self.read_out = inner, aggregate, read_out
        self.path, self.spec, self.sigma_data = inner.path, inner.spec, inner.sigma_data

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """As the inner denoiser encodes it."""
        return self.inner.encode_condition(condition)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The data prediction.

        Raises:
            AnydiffError: a part is neither given nor read by a head.
        """
        space, made = self.aggregate, self.inner.exits(x, t, condition)
        told = {name: condition.sources[name] for name in space.encoders if name in condition.sources}
        if self.read_out == "noise":
            natives = {kind: made[kind] for kind in self.inner.native_kinds}
            flat = converted(self.inner, x, t, natives, "data", condition).flatten(1)
            for name, value in told.items():
                encoder = space.encoders[name]
                flat = flat - encoder.projected(flat) + encoder.weight * space.share(name, value, flat)
            return flat.reshape(x.shape)
        for name in space.encoders:
            if name not in told and (name not in made or name in self.inner.native_kinds):
                raise AnydiffError(
                    f"read_out is 'heads', but the network has no head {name!r}; train one, or read the noise."
                )
        shares = {name: space.share(name, told[name] if name in told else made[name], x) for name in space.encoders}
        return space.joined(shares)


def aggregate_of(domain: Domain, asked: Aggregation) -> Aggregate:
    """The aggregate of a domain's states that a recipe asks for; blocks are stacked along the first axis.

    Raises:
        AnydiffError: parts that are not the domain's leaves, blocks that do not fit, codes of what is no class.
    """
    leaves = domain.spec.leaves
    if [*asked.parts] != [leaf.name for leaf in leaves]:
        raise AnydiffError(
            f"latent.parts names {', '.join(asked.parts)}, but the domain {domain.name!r} has the leaves "
            f"{', '.join(leaf.name for leaf in leaves)}; name each of them, in this order."
        )
    blocks = {leaf.name: _block(leaf, asked.parts[leaf.name]) for leaf in leaves}
    rest = {shape[1:] for shape in blocks.values()}
    if len(rest) > 1:
        raise AnydiffError(
            f"the blocks {', '.join(f'{name} {list(shape)}' for name, shape in blocks.items())} of latent.parts cannot "
            "be stacked along their first axis; give codes a shape that differs from the others there alone."
        )
    shape = (sum(each[0] for each in blocks.values()), *rest.pop())
    encoders, first = [], 0
    for leaf in leaves:
        part, block = asked.parts[leaf.name], blocks[leaf.name]
        coded = part.encoder == "codes"
        matrix = codes(block, leaf.size, part.tile) if coded else None
        encoders.append(Encoder(leaf.name, leaf.shape, math.prod(shape), part.weight, first, matrix, coded))
        first += math.prod(block)
    return Aggregate(domain.spec, encoders, shape)


def space_of(recipe: Recipe, domain: Domain, companions: Mapping[str, Pipeline]) -> Space | None:
    """Where ``recipe`` diffuses: an aggregate, an autoencoder's latent space, or None for the domain's own states."""
    if recipe.latent is None:
        return None
    if isinstance(recipe.latent, Aggregation):
        return aggregate_of(domain, recipe.latent)
    # Training puts a number in place of "unit"; before it there are no data to measure.
    scale = recipe.latent_scale if isinstance(recipe.latent_scale, float) else 1.0
    return latent_of(companions["latent"], recipe.latent, domain, scale)


def in_space(space: Space | None, condition: Conditioning) -> Conditioning:
    """``condition`` with known entries of data as what they are in ``space``: parts of an aggregate, or latents."""
    known = condition.known
    condition = condition if space is None else space.condition(condition)
    if known is None or space is None:
        return condition
    if isinstance(space, Aggregate):
        return replace(condition, known=None, sources={**condition.sources, **space.given(known)})
    return replace(condition, known=space.known(known))


def read_by(
    space: Space | None,
    denoiser: Denoiser,
    condition: Conditioning,
    asked: ReadOutName | None,
    usual: ReadOutName | None,
) -> Denoiser:
    """``denoiser`` as the parts of an aggregate are read; as it is where nothing is aggregated.

    Args:
        space: where the denoiser's states lie.
        denoiser: of the network.
        condition: known entries among it.
        asked: the read-out that the caller wants.
        usual: that of the recipe, where nothing is asked and no part is known.

    Raises:
        AnydiffError: a read-out where nothing is aggregated, or a part is known in some entries alone.
    """
    if not isinstance(space, Aggregate):
        if asked or usual:
            raise AnydiffError(
                f"read_out is {asked or usual!r}, but this recipe aggregates no parts (latent: {{parts: ...}}); leave "
                "it out."
            )
        return denoiser
    clamped = condition.known is not None and bool(space.given(condition.known))
    if clamped:
        warnings.warn(CLAMPED, stacklevel=2)
    chosen = asked or ("heads" if clamped else usual or "noise")
    return ReadOut(denoiser, space, chosen) if clamped or chosen != "noise" else denoiser


def _block(leaf: Leaf, part: PartSettings) -> tuple[int, ...]:
    if part.encoder == "identity":
        if part.tile is not None or (part.shape is not None and part.shape != leaf.shape):
            raise AnydiffError(
                f"the part {leaf.name!r} enters as it is, with shape {leaf.shape}, but shape is {part.shape} and tile "
                f"is {part.tile}; leave them out, or take encoder: codes."
            )
        return leaf.shape
    if len(leaf.shape) != 1 or part.shape is None or any(size < 1 for size in part.shape):
        raise AnydiffError(
            f"the part {leaf.name!r} of shape {leaf.shape} has encoder: codes and shape: {part.shape}, but codes are "
            "for one-hot classes, and need the shape of their patterns: shape: [1, 28, 28], say."
        )
    return part.shape
