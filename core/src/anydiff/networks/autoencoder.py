r"""An autoencoder in 1, 2 or 3 spatial dimensions: the small space that latent diffusion runs in.

A variational autoencoder whose posterior has one fixed deviation, q(z|x) = N(E(x), s² I) (the constant-variance VAE of
Ghosh et al. 2020, arXiv:1903.12436): what is learned are the means, the noise keeps the decoder smooth, and the
divergence from N(0, I) is |E(x)|²/2 per entry, up to a constant. Diffusion is then trained on the means (Rombach et al.
2022, arXiv:2112.10752). It is trained like every network, with the objective ``reconstruction``.

With a codebook the latents are classes, one per position (:mod:`anydiff.networks.codebook`), for diffusion on a
categorical path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks.codebook import Codebook
from anydiff.networks.latent_density import LatentDensity
from anydiff.networks.layers import (
    check_input,
    crop,
    depth_to_space,
    group_norm,
    in_full_precision,
    pad_to_multiple,
    space_to_depth,
    spatial_shape,
)
from anydiff.states import Leaf

if TYPE_CHECKING:
    from anydiff.states import StateSpec

CODE_SIZE = 8
"""Numbers per vector of a codebook, where a recipe does not say."""


def _convolution(dimensions: int, inputs: int, outputs: int, kernel: int) -> nn.Module:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    return kind(inputs, outputs, kernel, padding=kernel // 2)


class _Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, dimensions: int, channels: int) -> None:
        super().__init__()
        self.norm_entry, self.norm_exit = group_norm(channels), group_norm(channels)
        self.entry = _convolution(dimensions, channels, channels, 3)
        self.exit = _convolution(dimensions, channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.entry(functional.silu(self.norm_entry(x)))
        return x + self.exit(functional.silu(self.norm_exit(hidden)))  # type: ignore[no-any-return]


class Autoencoder(nn.Module):
    """Encoder and decoder of states ``[B, C, *spatial]`` with latents ``[B, L, *spatial/factor]``, or codes.

    With ``codebook`` the latents are int64 ``[B, *spatial/factor]``, values 0 to K - 1.

    Sizes that the factor does not divide are padded with zeros inside and cropped. As a network of a recipe it predicts
    the data from the state alone, whatever the noise level: ``forward`` is the reconstruction.

    Args:
        spec: the state, of shape (C, *spatial).
        conditions: accepted and not used.
        latent_channels: L, without a codebook.
        factor: side of the cell that one latent position stands for; a power of two.
        channels: of the blocks at half resolution; they double with every further halving.
        blocks: residual blocks per resolution, in the encoder and again in the decoder.
        codebook: K, the number of codes; None for latents that are numbers.
        code_size: numbers per code's vector; 8 by default.
        density: components of the mixture of Gaussians that is fitted to the codes at the end of a training
            (:class:`~anydiff.networks.latent_density.LatentDensity`); None for none. Not with a codebook.

    Attributes:
        latent_leaf: what a latent is.

    Raises:
        AnydiffError: an option out of range, a code size without a codebook, a density with one, or a state that is
            not (C, *spatial).
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Any] | None = None,
        *,
        latent_channels: int = 4,
        factor: int = 4,
        channels: int = 32,
        blocks: int = 1,
        codebook: int | None = None,
        code_size: int | None = None,
        density: int | None = None,
    ) -> None:
        super().__init__()
        natural_number("blocks", blocks)
        halvings = natural_number("factor", factor, 2).bit_length() - 1
        if 2**halvings != factor:
            raise AnydiffError(f"factor is {factor}, but must be a power of two.")
        state_channels, sizes = spatial_shape("autoencoder", spec)
        dimensions = len(sizes)
        self.shape = (state_channels, *sizes)
        self.factor = factor
        if codebook is None and code_size is not None:
            raise AnydiffError(f"code_size is {code_size}, but there is no codebook; give codebook: 128, say.")
        cells = tuple(-(-size // factor) for size in sizes)
        features = natural_number("latent_channels", latent_channels)
        if codebook is not None:
            features = natural_number("code_size", CODE_SIZE if code_size is None else code_size)
        self._features_shape = (features, *cells)
        self.latent_leaf = (
            Leaf("latent", self._features_shape)
            if codebook is None
            else Leaf("latent", cells, kind="categorical", classes=natural_number("codebook", codebook, 2))
        )
        cell = 2**dimensions
        widths = [natural_number("channels", channels) * 2**level for level in range(halvings)]

        def stage(width: int) -> list[nn.Module]:
            return [_Block(dimensions, width) for _ in range(blocks)]

        self.entry = _convolution(dimensions, state_channels * cell, widths[0], 3)
        self.encoder = nn.ModuleList(nn.Sequential(*stage(width)) for width in widths)
        self.down = nn.ModuleList(_convolution(dimensions, cell * w, 2 * w, 1) for w in widths[:-1])
        self.norm_latent = group_norm(widths[-1])
        self.to_latent = _convolution(dimensions, widths[-1], features, 1)
        self.from_latent = _convolution(dimensions, features, widths[-1], 3)
        self.decoder = nn.ModuleList(nn.Sequential(*stage(width)) for width in reversed(widths))
        self.up = nn.ModuleList(_convolution(dimensions, 2 * w, cell * w, 1) for w in reversed(widths[:-1]))
        self.norm = group_norm(widths[0])
        self.exit = _convolution(dimensions, widths[0], state_channels * cell, 3)
        self.codebook = None if codebook is None else Codebook(codebook, features)
        if codebook is not None and density is not None:
            raise AnydiffError(f"density is {density}, but codes of a codebook are classes; leave one of them out.")
        self.density = None if density is None else LatentDensity(density, math.prod(self._features_shape))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one latent: (L, *spatial/factor), or of its codes."""
        return self.latent_leaf.shape

    @property
    def heads(self) -> Mapping[str, Callable[[Tensor], Any]]:
        """What it offers to objectives beside its prediction: ``encode`` to features and ``decode`` from them, which
        can be differentiated, and ``quantise`` where there is a codebook."""
        book = {} if self.codebook is None else {"quantise": self.codebook}
        return {"encode": self._features, "decode": self._decoded, **book}

    def begin(self, states: Tensor, seed: int) -> None:
        """Put the codebook where the features of the first examples ``[B, C, *spatial]`` are; a training asks for it.

        Raises:
            AnydiffError: fewer different features than codes.
        """
        if self.codebook is not None:
            with torch.no_grad():
                self.codebook.begin(self._features(states), seed)

    def encode(self, x: Tensor) -> Tensor:
        """The means E(x), or codes, ``[B, *latent_shape]`` of states ``[B, C, *spatial]``."""
        features = self._features(x)
        return features if self.codebook is None else self.codebook.encode(features)

    def _features(self, x: Tensor) -> Tensor:
        check_input(x, self.shape)
        hidden = self.entry(space_to_depth(pad_to_multiple(x, self.factor), 2).to(self.norm.weight.dtype))
        for level, stage in enumerate(self.encoder):
            if level:
                hidden = self.down[level - 1](space_to_depth(hidden, 2))
            hidden = stage(hidden)
        return in_full_precision(self.to_latent, functional.silu(self.norm_latent(hidden))).to(x.dtype)

    def decode(self, latent: Tensor) -> Tensor:
        """The states ``[B, C, *spatial]`` of latents ``[B, *latent_shape]``.

        Raises:
            AnydiffError: latents of another shape, or codes that the codebook does not have.
        """
        check_input(latent, self.latent_shape)
        return self._decoded(latent if self.codebook is None else self.codebook.embed(latent))

    def _decoded(self, latent: Tensor) -> Tensor:
        hidden = self.from_latent(latent.to(self.norm.weight.dtype))
        for level, stage in enumerate(self.decoder):
            if level:
                hidden = depth_to_space(self.up[level - 1](hidden), 2)
            hidden = stage(hidden)
        made = in_full_precision(self.exit, functional.silu(self.norm(hidden)))
        return crop(depth_to_space(made, 2), self.shape[1:]).to(latent.dtype)

    def forward(self, x: Tensor, log_snr: Tensor | None = None, condition: object = None) -> Tensor:
        """decode(encode(x)) ``[B, C, *spatial]``; the other arguments have no influence."""
        return self.decode(self.encode(x)).to(x.dtype)
