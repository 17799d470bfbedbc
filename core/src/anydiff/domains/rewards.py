"""Rewards: one differentiable number per sample, of its values in the field's own units; what is refused of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anydiff.domains.domain import Domain
from anydiff.domains.protocols import HasUnits
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning

Reward = Callable[[Tensor], Tensor]
"""``reward(values [B, *shape]) -> [B]``, from torch operations: more is better, and row b is of ``values[b]`` alone."""


def own_units(domain: Domain, states: Tensor, condition: Conditioning) -> Tensor:
    """What rewards are given: ``states [B, *shape]`` in the field's own units, or as they are where it has none.

    Differentiable. ``condition`` has one row per state.
    """
    return domain.in_units(states, condition) if isinstance(domain, HasUnits) else states


def reward_of(reward: Reward, values: Tensor) -> Tensor:
    """The checked rewards ``[B]`` of ``values [B, *shape]``, with their graph where ``values`` has one.

    Raises:
        AnydiffError: the reward fails, gives no floating-point number per row, or one that is not finite.
    """
    name = reward_name(reward)
    try:
        found = reward(values)
    except (KeyboardInterrupt, MemoryError, AnydiffError):
        raise
    except Exception as error:  # somebody else's function may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise AnydiffError(
            f"the reward {name} fails on values of shape {list(values.shape)} ({reason}); it takes [B, *shape] and "
            "gives [B]."
        ) from error
    if not isinstance(found, Tensor) or found.shape != values.shape[:1] or not found.is_floating_point():
        shown = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise AnydiffError(
            f"the reward {name} gives {shown} for values of shape {list(values.shape)}, but must give one number per "
            f"row, a floating-point tensor [{len(values)}]; sum or average over the other axes."
        )
    wrong = (~found.detach().isfinite()).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise AnydiffError(
            f"the reward {name} is {float(found.detach()[row]):g} in row {row}, and not finite in {len(wrong)} of "
            f"{len(found)} rows; limit what it divides by or takes the logarithm of."
        )
    return found


def reward_and_gradient(reward: Callable[[Tensor], Tensor], states: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Rewards ``[B]`` and their gradients by the states ``[B, *shape]``, without graph.

    Args:
        reward: of states, one finite number per row.
        states: at which it is differentiated.
        name: of the reward, for errors.

    Raises:
        AnydiffError: no torch operations lead from the states to the reward, a row depends on other rows, or a gradient
            is not finite.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = states.detach().clone().requires_grad_()
        found = reward(leaf)
        if not found.requires_grad:
            raise AnydiffError(
                f"the reward {name} does not depend on its values by differentiable torch operations; compute it from "
                "them without detach(), numpy or rounding."
            )
        (first,) = torch.autograd.grad(found[0], leaf, retain_graph=True, allow_unused=True)
        (gradient,) = torch.autograd.grad(found.sum(), leaf, allow_unused=True)
    if gradient is None or first is None:
        raise AnydiffError(f"the reward {name} does not depend on its values; compute it from them.")
    if not bool(gradient.isfinite().all()):
        raise AnydiffError(
            f"the gradient of the reward {name} is not finite; limit what it divides by or takes the root of."
        )
    if bool(first[1:].any()):
        raise AnydiffError(
            f"the reward {name} of one row depends on other rows, so a sample would depend on its batch; compute row b "
            "from values[b] alone."
        )
    return found.detach(), gradient


def reward_name(reward: Callable[..., Tensor]) -> str:
    """How errors call it."""
    return repr(getattr(reward, "__name__", type(reward).__name__))
