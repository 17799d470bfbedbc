r"""The rules that a Transition instruction can name: how the classes at one time are drawn from those at another.

One posterior rule serves every kernel of :mod:`anydiff.paths.categorical`. With f the cavity (what the other entries
say of an entry, :mod:`anydiff.denoisers.categorical`), (ᾱ, β̄, γ̄) the kernel from the data to the earlier time s and
(α, β, γ) the one from s to t,

    r(x_s = w) ∝ (ᾱ f_w + β̄ m_w) (β m_v + α [w = v])    if x_t is the class v,
    r(x_s = w) ∝ (ᾱ f_w + β̄ m_w) γ,   r(x_s = M) ∝ γ̄    if x_t is the mask.

It is drawn in parts, so that f is summed up class by class only where an entry is drawn anew: whether the entry stays,
whether it is drawn from f or from m, and which class. Every entry spends one number in (0, 1): what is left of it after
a part decides the next. Comparisons are made in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import UnknownNameError
from anydiff.solvers.plan import Transition
from anydiff.states.classes import bad_logits, draw_class

#: Probabilities that are summed up at a time, so that vocabularies of any size need little memory.
BLOCK = 1 << 19


def drawn_anew(cavity: Tensor, chosen: Tensor, uniform: Tensor) -> Tensor:
    """Classes drawn from the ``cavity [N, K]`` (logits) of the entries ``chosen`` (indices [n]) by ``uniform [n]``."""
    if not len(chosen):
        return chosen
    block = max(1, BLOCK // cavity.shape[-1])
    parts = (slice(begin, begin + block) for begin in range(0, len(chosen), block))
    return torch.cat([draw_class(cavity[chosen[rows]], uniform[rows]) for rows in parts])


def posterior(
    state: Tensor,
    cavity: Tensor,
    uniform: Tensor,
    *,
    classes: int,
    data: Sequence[float],
    step: Sequence[float],
    law: Sequence[float] | None = None,
) -> Tensor:
    """x_s ``[B, *shape]`` of x_t by the rule of the module.

    Args:
        state: x_t, class numbers, the mask ``classes`` among them.
        cavity: logits ``[B, *shape, K]`` of kind ``cavity``.
        uniform: float64 numbers in (0, 1), of the shape of the state.
        classes: K.
        data: (ᾱ, β̄, γ̄) from the data to s.
        step: (α, β, γ) from s to t.
        law: m; None for the uniform law.

    Raises:
        NonFiniteError: a prediction from which nothing can be drawn.
    """
    kept, replaced, masked = data
    alpha, beta, gamma = step
    x, u = state.flatten().long(), uniform.flatten().double()
    logits = cavity.reshape(-1, cavity.shape[-1])
    is_mask = x >= classes
    stays = torch.full_like(u, masked / (masked + gamma * (kept + replaced)) if masked + gamma else 1.0)
    if beta > 0:
        m = _law(law, classes, u)
        present = torch.where(is_mask, 0, x)
        own = probability(logits, present)
        there = alpha * (kept * own + replaced * m[present])
        other = beta * m[present] * (kept + replaced)
        rest = torch.where(other == 0, 1.0, there / (there + other).clamp_min(1e-300))
        stays = torch.where(is_mask, stays, rest)
    else:
        stays = torch.where(is_mask, stays, 1.0)
    return redrawn(x, logits, u, stays, (kept, replaced), law).reshape(state.shape).to(state.dtype)


def leap(
    state: Tensor,
    cavity: Tensor,
    uniform: Tensor,
    *,
    classes: int,
    data: Sequence[float],
    reveal: float,
    replace: float,
    law: Sequence[float] | None = None,
) -> Tensor:
    """x_s of x_t by tau-leaping: a jump with the probability that the reverse rate at t gives for the whole step.

    The reverse process jumps from x to w at the rate R(w -> x) p_t(w)/p_t(x), with p_t(w) = ᾱ f_w + β̄ m_w.
    Probabilities above 1 are cut to 1.

    Args:
        state, cavity, uniform, classes, law: as for :func:`posterior`.
        data: (ᾱ, β̄, γ̄) from the data to t.
        reveal: probability that a mask jumps.
        replace: length of the step times the rate at which classes are replaced; a class v jumps to another one with
            ``replace`` m_v p_t(w)/p_t(v).
    """
    kept, replaced, _ = data
    x, u = state.flatten().long(), uniform.flatten().double()
    logits = cavity.reshape(-1, cavity.shape[-1])
    is_mask = x >= classes
    stays = torch.full_like(u, 1 - min(reveal, 1.0))
    if replace > 0:
        m = _law(law, classes, u)
        present = torch.where(is_mask, 0, x)
        level = kept * probability(logits, present) + replaced * m[present]
        jump = (replace * m[present] * (kept + replaced) / level.clamp_min(1e-300)).clamp_max(1.0)
        stays = torch.where(is_mask, stays, 1 - jump)
    else:
        stays = torch.where(is_mask, stays, 1.0)
    return redrawn(x, logits, u, stays, (kept, replaced), law).reshape(state.shape).to(state.dtype)


def probability(logits: Tensor, chosen: Tensor) -> Tensor:
    """The probability, float64 ``[N]``, of the class ``chosen [N]`` in each row of ``logits [N, K]``.

    Raises:
        NonFiniteError: a row gives none.
    """
    found = torch.exp((logits.gather(1, chosen[:, None])[:, 0] - torch.logsumexp(logits, dim=1)).double())
    if not bool(torch.isfinite(found).all()):
        raise bad_logits(int((~torch.isfinite(found)).nonzero()[0, 0]))
    return found


def redrawn(
    x: Tensor, logits: Tensor, u: Tensor, stays: Tensor, share: tuple[float, float], law: Sequence[float] | None
) -> Tensor:
    """Classes ``x [N]``, of which entry i stays if ``u < stays`` there, and else is drawn anew from a mixture.

    Args:
        x: classes.
        logits: f of each entry, ``[N, K]``.
        u: one number in (0, 1) per entry, float64.
        stays: probabilities, float64.
        share: weights of f and of the law m in the mixture.
        law: m; None for the uniform law.
    """
    kept, replaced = share
    anew = (u >= stays).nonzero()[:, 0]
    left = ((u - stays) / (1 - stays))[anew]
    out = x.clone()
    if replaced > 0:
        of_data = kept / (kept + replaced)
        by_law = left >= of_data
        cumulative = _law(law, logits.shape[-1], u).cumsum(0)
        level = ((left - of_data) / (1 - of_data)).clamp(0, 1) * cumulative[-1]
        level = torch.minimum(level, torch.nextafter(cumulative[-1], torch.zeros_like(cumulative[-1])))
        out[anew[by_law]] = torch.searchsorted(cumulative, level[by_law].contiguous(), right=True)
        anew, left = anew[~by_law], (left / of_data)[~by_law] if of_data else left[~by_law]
    out[anew] = drawn_anew(logits, anew, left)
    return out


ORDERS = ("random", "left-to-right", "confident")


def unmask(
    state: Tensor,
    logits: Tensor,
    uniform: Tensor,
    *numbers: Tensor,
    classes: int,
    steps_left: int,
    order: str | Sequence[int],
) -> Tensor:
    """Reveal an equal share of the masks of each row: of k masks k/``steps_left``, rounded up.

    Args:
        state: classes ``[B, *shape]``, the mask ``classes`` among them.
        logits: of the clean classes, ``[B, *shape, K]``.
        uniform: numbers in (0, 1) that choose the classes.
        numbers: for the order ``random``, numbers in (0, 1) whose ranks are the order of each row.
        classes: K.
        steps_left: this step and those after it.
        order: ``random``, ``left-to-right``, ``confident`` (the greatest probability first) or the places in order.
    """
    x = state.flatten(1).long()
    is_mask = x >= classes
    if order == "random":
        rank = numbers[0].flatten(1).double()
    elif order == "left-to-right":
        rank = torch.arange(x.shape[1], dtype=torch.float64, device=x.device).expand(x.shape)
    elif order == "confident":
        rank = -torch.log_softmax(logits.flatten(1, -2).double(), dim=-1).amax(-1)
    else:
        rank = torch.empty(x.shape[1], dtype=torch.float64, device=x.device)
        rank[torch.tensor(order, device=x.device)] = torch.arange(len(order), dtype=torch.float64, device=x.device)
        rank = rank.expand(x.shape)
    rank = torch.where(is_mask, rank, torch.inf).argsort(dim=1).argsort(dim=1)
    count = torch.ceil(is_mask.sum(1, keepdim=True) / steps_left)
    chosen = (is_mask & (rank < count)).flatten().nonzero()[:, 0]
    out = x.flatten().clone()
    out[chosen] = drawn_anew(logits.reshape(-1, logits.shape[-1]), chosen, uniform.flatten().double()[chosen])
    return out.reshape(state.shape).to(state.dtype)


def posterior_law(
    state: Tensor,
    cavity: Tensor,
    *,
    classes: int,
    data: Sequence[float | Tensor],
    step: Sequence[float | Tensor],
    law: Sequence[float] | None = None,
) -> Tensor:
    """The probabilities ``[B, *shape, K + 1]`` (float64, the mask last) from which :func:`posterior` draws.

    Kernels may be tensors that broadcast against these: one per row, say.
    """
    kept, replaced, masked = data
    alpha, beta, gamma = step
    m = _law(law, classes, state)
    f = torch.softmax(cavity.double(), dim=-1)
    earlier = kept * f + replaced * m
    is_mask = (state >= classes)[..., None]
    present = torch.where(is_mask[..., 0], 0, state).long()
    same = torch.nn.functional.one_hot(present, classes).double()
    likelihood = beta * m[present][..., None] + alpha * same
    weights = torch.where(is_mask, gamma * earlier, earlier * likelihood)
    rest = torch.where(is_mask, masked * torch.ones_like(weights[..., :1]), 0.0)
    weights = torch.cat([weights, rest], dim=-1)
    total = weights.sum(-1, keepdim=True)
    certain = torch.nn.functional.one_hot(torch.where(is_mask[..., 0], classes, present), classes + 1).double()
    return torch.where(total > 0, weights / total.clamp_min(1e-300), certain)


def most_likely(state: Tensor, prediction: Tensor, uniform: Tensor, *, classes: int) -> Tensor:
    """The most probable class of each entry, of a prediction of kind ``logits``; ``uniform`` is not used."""
    if bool(torch.isnan(prediction).any()):
        raise bad_logits(int(torch.isnan(prediction.flatten(0, -2)).any(-1).nonzero()[0, 0]))
    return prediction.argmax(dim=-1).to(state.dtype)


def _law(law: Sequence[float] | None, classes: int, like: Tensor) -> Tensor:
    if law is None:
        return torch.full((classes,), 1 / classes, dtype=torch.float64, device=like.device)
    return torch.tensor(law, dtype=torch.float64, device=like.device)


Rule = Callable[..., Tensor]
RULES: Mapping[str, Rule] = {"posterior": posterior, "leap": leap, "unmask": unmask, "most-likely": most_likely}
"""Name -> ``rule(state, prediction, uniform, *beside, **options) -> state``."""
LAWS: Mapping[str, Rule] = {"posterior": posterior_law}
"""Name of a rule whose entries are drawn independently -> ``law(state, prediction, **options) -> [..., K + 1]``."""


def transition(instruction: Transition, registers: Mapping[str, Tensor], uniform: Tensor) -> Tensor:
    """What the instruction writes, by the numbers ``uniform`` in (0, 1), one per entry of the state.

    With the option ``places`` it is of one leaf of a mixed state, whose prediction holds logits: the classes go into a
    copy of the register beside.

    Raises:
        UnknownNameError: no such rule.
    """
    if instruction.rule not in RULES:
        raise UnknownNameError("rule of a transition", instruction.rule, RULES)
    state, prediction, *beside = (registers[name] for name in instruction.inputs)
    options = dict(instruction.options)
    places = options.pop("places", None)
    if places is None:
        return RULES[instruction.rule](state, prediction, uniform, *beside, **options)
    (first, last), (begin, end) = places
    classes = state[:, first:last].long()
    logits = prediction[:, begin:end].reshape(*classes.shape, -1)
    seen = options.pop("seen", None)
    if seen is not None:
        logits = without_likelihood(classes, logits, seen, options)
    out = beside[0].clone()
    out[:, first:last] = RULES[instruction.rule](classes, logits, uniform[:, first:last], **options).to(out.dtype)
    return out


def without_likelihood(x: Tensor, logits: Tensor, seen: Sequence[float], options: Mapping[str, Any]) -> Tensor:
    """The cavity of ``logits [B, N, K]`` of classes ``x``, with ``seen`` the kernel from the data to their time."""
    kept, replaced, _ = seen
    law, present = _law(options.get("law"), options["classes"], logits), x < options["classes"]
    own = torch.where(present, x, 0)
    other = replaced * law[own]
    gain = torch.where(present & (other > 0), torch.log1p(kept / other.clamp_min(1e-300)), 0.0)
    return logits.scatter_add(-1, own[..., None], -gain[..., None].to(logits.dtype))
