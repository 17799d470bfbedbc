"""Stable targets (Xu, Tong, Jaakkola 2023, arXiv:2302.00670; a flag of PFGM++, arXiv 2302.04265).

A noisy state could have come from many examples. The target of plain denoising is the one it was made of, which is
right on average and noisy by itself. The stable target is the mean over a reference batch, each example weighted by the
density of the noise that would have led to the state:

    x̂_0(x_t) = Σ_j w_j x_j,   w_j ∝ p_ε((x_t - α x_j)/σ),

for any law of noise with a density. The batch is that of the training step (its own example included), so no further
data are read.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import weights
from anydiff.errors import AnydiffError
from anydiff.objectives.base import element_mean, target_and_gain
from anydiff.objectives.call import Call
from anydiff.objectives.denoising import Denoising
from anydiff.paths.base import per_row


class StableTarget(Denoising):
    """Denoising with the posterior mean over the batch in place of the example itself; options as there.

    With one example in a micro batch it is plain denoising. The loss of an example depends on its whole micro batch, so
    batch and micro batch are one here.

    Raises:
        AnydiffError: a path with known sources, a state with absent entries or several noise levels, or a loss weight.
    """

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse what the weights are not defined for."""
        path, spec = denoiser.gaussian_path, denoiser.spec
        if path.known or (spec is not None and (spec.has_absent_entries or len(spec.leaves) > 1)):
            raise AnydiffError(
                f"stable targets need one noise level for all entries of a state and no known source, which {path!r} "
                "and these states do not have; use the objective 'denoising'."
            )

    def squared_error(self, call: Call, entry_weights: Tensor | None) -> Tensor:
        """As :class:`Denoising`, with x̂_0 for x_0 and (x_t - α x̂_0)/σ for the noise."""
        if call.condition.loss_weight is not None:
            raise AnydiffError(
                "stable targets weigh whole states, so entries cannot be left out by loss_weight; use the objective "
                "'denoising' with this data."
            )
        path, t, sigma_data = call.gaussian_path, call.t, call.denoiser.sigma_data
        clean = stable_target(call)
        alpha, sigma = per_row(path.alpha(t), clean), per_row(path.sigma(t), clean)
        noise = (call.x - alpha * clean) / sigma
        losses = []
        for kind, prediction in call.natives.items():
            row = weights(path, t, kind, sigma_data)
            _, _, gain = target_and_gain(path, t, kind, sigma_data)
            parts = {"clean": clean, "noise": noise}
            wanted = [per_row(weight, clean) * parts[path.sources[name]] for name, weight in row.items()]
            error = (prediction - sum(wanted[1:], wanted[0])).square()
            weight = self.noise_weight(path, t, sigma_data) * gain
            losses.append(weight.to(error.dtype) * element_mean(error, entry_weights))
        return sum(losses[1:], losses[0])


@torch.no_grad()
def stable_target(call: Call) -> Tensor:
    """x̂_0 ``[B, *shape]``: the weights in float64 and in log space, over the clean examples of the call."""
    path, law = call.gaussian_path, call.path.noise_law
    alpha, sigma = path.alpha(call.t), path.sigma(call.t)
    states, clean = call.x.double().flatten(1), call.clean.double().flatten(1)
    rows = []
    for state, a, s in zip(states, alpha.tolist(), sigma.tolist(), strict=True):
        rows.append(torch.softmax(law.log_density((state - a * clean) / s), dim=0) @ clean)
    return torch.stack(rows).to(call.clean).reshape(call.clean.shape)
