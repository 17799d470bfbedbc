"""Noise-contrastive estimation of an energy of whole states (Xu et al. 2024, arXiv:2410.21357)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.objectives.base import Objective
from anydiff.objectives.call import Call, network_head
from anydiff.paths.categorical import categorical
from anydiff.paths.path import Path
from anydiff.states.classes import draw_class

PROPOSAL = "proposal"
_NAME = "the objective 'noise-contrastive'"


class NoiseContrastive(Objective):
    """-log σ(-E(x_0, x_t)) - log σ(E(x_0', x_t)): the data against one draw x_0' of a frozen proposal, nats per state.

    The proposal is the companion of that name, a denoiser that predicts each entry by itself. At the optimum
    exp(-E) = p(x_0 | x_t)/q(x_0 | x_t), which needs no constant. 1 - ᾱ is uniform in (0, 1). The network has the head
    ``energy`` (``token-energy``); the guidance ``energy`` samples by it.
    """

    needs = (PROPOSAL,)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] at which 1 - ᾱ is the number, of uniform numbers [B] in (0, 1)."""
        return categorical(path, _NAME).when_lost(uniform.double())

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a path of real numbers, and a network without an energy."""
        categorical(denoiser.path, _NAME)
        network_head(denoiser, "energy", _NAME, "choose the network token-energy")

    def meet(self, denoiser: Denoiser, companions: Mapping[str, Denoiser]) -> None:
        """Refuse a proposal of other states or of another path.

        Raises:
            AnydiffError: it is one.
        """
        proposal = companions[PROPOSAL]
        own, other = categorical(denoiser.path, _NAME), proposal.path
        shapes = [None if each.spec is None else each.spec.shape for each in (denoiser, proposal)]
        if repr(own) != repr(other) or shapes[0] != shapes[1] or own.bound != getattr(other, "classes", None):
            raise AnydiffError(
                f"companions.{PROPOSAL} is of states {shapes[1]} with {getattr(other, 'classes', 'no')} classes on "
                f"{other!r}, but the recipe is of {shapes[0]} with {own.bound} on {own!r}; name a proposal of the same "
                "domain, vocabulary and path."
            )

    def loss(self, call: Call) -> Tensor:
        """Nats per state, [B]."""
        energy = call.head("energy", _NAME, "choose the network token-energy")
        with torch.no_grad():
            logits = call.predicted_by(PROPOSAL, "logits")
            drawn = call.draws.uniform("negative", tuple(call.clean.shape[1:])).to(logits.device)
            negative = draw_class(logits.flatten(0, -2), drawn.flatten()).reshape(call.clean.shape)
        pairs = torch.stack([call.clean, negative.to(call.clean.dtype)], dim=1)
        true, made = energy(pairs, call.x, call.condition).unbind(dim=1)
        return functional.softplus(true) + functional.softplus(-made)
