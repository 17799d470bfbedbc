"""The sampler inside a loss: samples of the network that is trained, by any plan, with their graph.

Each call of the network is checkpointed: its activations are forgotten and made again in the backward pass, so memory
grows with the states of the plan and not with the activations of its calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from anydiff.denoisers.wrappers.base import Wrapper, wrapped
from anydiff.denoisers.wrappers.known import with_known_entries
from anydiff.errors import AnydiffError
from anydiff.objectives.call import Call
from anydiff.samplers.sampler import guidance_layers
from anydiff.solvers.executor import execute
from anydiff.solvers.plan import Plan
from anydiff.states import StateSpec


def sampled(
    call: Call, plan: Plan, guidance: Wrapper | Sequence[Wrapper] | None = None, purpose: str = "sampler"
) -> Tensor:
    """One sample for each row of ``call`` under its condition ``[rows, *shape]``, differentiable by the network.

    The prior and all noise of a row are drawn from the row's own streams, apart from the noise that the row is trained
    with; so micro batches, devices and resumption change no sample.

    Args:
        call: gives the denoiser, the conditions and the random numbers.
        plan: compiled on the denoiser's path.
        guidance: one or several guidances or other wrappers around the denoiser, the first innermost.
        purpose: another one gives independent samples of the same rows.

    Raises:
        AnydiffError: the plan begins elsewhere than at the prior.
        NonFiniteError: a sample is not finite.
    """
    denoiser, condition, like = call.denoiser, call.condition, call.clean
    if plan.nodes[0] != call.path.t_start:
        raise AnydiffError(
            f"the plan starts at t={plan.nodes[0]:g}, but the prior is at t={call.path.t_start:g}; take a grid that "
            "begins there."
        )
    spec = denoiser.spec or StateSpec.single(tuple(like.shape[1:]))
    source, numbers = call.draws.source(purpose, spec, call.path.noise_law, condition.mask if spec.masked else None)
    condition = condition if condition.parts else denoiser.encode_condition(condition)
    condition = replace(condition, index=torch.tensor(numbers, device=like.device))
    layers = [layer.for_run(numbers) for layer in guidance_layers(guidance, spec, condition)]
    first = call.path.first(source.draw(numbers, 0, like.dtype, like.device), condition)
    made = execute(plan, wrapped(denoiser, layers), first, noise=source, condition=condition, differentiable=True)
    return with_known_entries(made, condition)
