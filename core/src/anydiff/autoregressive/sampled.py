"""A block of the outer loop, drawn by diffusion: any denoiser, solver and guidance, conditioned on the context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.autoregressive.rollout import Context
from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.samplers import sample
from anydiff.states.conditions import Conditioning
from anydiff.states.spec import StateSpec


class Sampled:
    """The inner sampler: ``rollout(Sampled(denoiser, spec, condition, nfe=10), values, known)``.

    Args:
        denoiser: of one block; its state has the shape of the block's elements together.
        spec: what one block is, or its shape.
        condition: from the context to the denoiser's condition, one row per row of the context.
        samples: the sample index of each row of the rollout (its random stream); by default 0, 1, ...
        options: of :func:`anydiff.samplers.sample`: nfe, solver, guidance, batch_size, device, ...
    """

    def __init__(
        self,
        denoiser: Denoiser,
        spec: StateSpec | Sequence[int],
        condition: Callable[[Context], Conditioning | Mapping[str, Tensor]],
        samples: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        for name in ("seed", "condition"):
            if name in options:
                raise AnydiffError(
                    f"{name} is set by the outer loop; give it to rollout, or as the context's function."
                )
        self.denoiser = denoiser
        self.spec = spec if isinstance(spec, StateSpec) else StateSpec.single(tuple(spec))
        self.condition = condition
        self.samples = samples
        self.options = options

    def __call__(self, context: Context) -> Tensor:
        """The elements at the context's targets ``[B, len(targets), *shape]``."""
        shape = (len(context.rows), len(context.targets), *context.values.shape[2:])
        size = torch.Size(shape[1:]).numel()
        if self.spec.size != size:
            raise AnydiffError(
                f"the denoiser's state has {self.spec.size} entries, but positions {context.targets.start} to "
                f"{context.targets.stop - 1} hold {size}; give rollout the block that the denoiser was trained for."
            )
        indices = context.rows if self.samples is None else [self.samples[row] for row in context.rows]
        states = sample(
            self.denoiser,
            self.spec,
            indices,
            seed=context.seed,
            condition=self.condition(context),
            **{"dtype": context.values.dtype, **self.options},
        )
        return states.reshape(shape)
