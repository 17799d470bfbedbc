"""Cross-entropy of the next token: the exact log-likelihood of an autoregressive model."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call
from anydiff.paths.categorical import categorical
from anydiff.paths.path import Path

_NAME = "the objective 'next-token'"


class NextToken(Objective):
    """-log p(x_0) in nats per entry, exactly, of a causal network: the mean of -log p(x_0^i | x_0^1 … x_0^(i-1)).

    The network is called once, on the clean classes; each place sees those before it (``tokens`` with ``causal``).
    Samples are drawn by ``unmasking`` with ``places: left-to-right`` and one call per token: what stands before a place
    is then all that its prediction knows.
    """

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B]; the loss has none, and the network is told the data's."""
        return uniform.double() * 0 + path.t_end

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a path of real numbers, and a network that sees what it is asked for.

        Raises:
            AnydiffError: one of the two.
        """
        categorical(denoiser.path, _NAME)
        if not denoiser.causal:
            raise AnydiffError(
                f"{_NAME} needs a network whose places see only those before them, which this one is not; set "
                "network.options.causal=true, or take masked-cross-entropy."
            )

    def loss(self, call: Call) -> Tensor:
        """Nats per entry, [B]."""
        self.prepare(call.denoiser)
        call.once("x", lambda: call.clean)
        entropy = functional.cross_entropy(call.native.flatten(0, -2).float(), call.clean.flatten(), reduction="none")
        return element_mean(entropy.reshape(call.clean.shape), call.entry_weights)
