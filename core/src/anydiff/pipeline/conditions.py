"""What samples are asked with: conditions as tensors, those a model cannot do without, and entries that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.denoisers.wrappers import Wrapper
from anydiff.domains import Domain, FixesParts, TakesObjects
from anydiff.errors import AnydiffError, natural_number
from anydiff.recipes import Recipe
from anydiff.states import UNCONDITIONAL, Conditioning, Known

if TYPE_CHECKING:
    from torch import nn


Asked = Conditioning | Mapping[str, Any]
"""What a caller asks for: everything as one object, or conditions by name (texts, lists, tensors)."""


def conditioning_of(domain: Domain, condition: Asked | None, count: int, guiding: Sequence[str] = ()) -> Conditioning:
    """What is asked for, of ``count`` rows: from text that the domain understands, lists or tensors by name, or the
    field's own objects where the domain takes such for a condition.

    Beside the domain's conditions, those called ``guiding`` may be given: they are for guidance alone. Where states
    have masked leaves, ``mask`` says which nodes there are, unless the domain has a condition of that name.

    Raises:
        UnknownNameError: a condition that nothing here has.
    """
    if isinstance(condition, Conditioning):
        for name in (*condition.given, *condition.present):
            if name not in domain.conditions and name not in guiding and name not in fixing(domain):
                domain.parse_condition({name: ""}, count)  # raises, with the names that exist
        return condition
    if not condition:
        return UNCONDITIONAL
    text = {name: value for name, value in condition.items() if isinstance(value, str)}
    parsed = domain.parse_condition(text, count) if text else {}
    mask = None
    for name, value in condition.items():
        if name in text:
            continue
        encoded = domain.encode_given(name, value) if isinstance(domain, TakesObjects) else None
        tensor = torch.as_tensor(value) if encoded is None else encoded
        if name == "mask" and domain.spec.masked and name not in domain.conditions:
            mask = tensor
            continue
        if name not in domain.conditions and name not in guiding and name not in fixing(domain):
            domain.parse_condition({name: ""}, count)
        parsed[name] = tensor.expand(count) if tensor.ndim == 0 else tensor
    return Conditioning(parsed, mask=mask)


def fixing(domain: Domain) -> tuple[str, ...]:
    """The conditions of the domain that fix entries of a state and that no network reads."""
    return tuple(domain.fixes) if isinstance(domain, FixesParts) else ()


def never_hidden(recipe: Recipe, network: nn.Module, domain: Domain) -> list[str]:
    """The conditions without which the network was never trained: those it reads, where no training hid them.

    A network that reads fewer than the domain has says so by an attribute ``reads_conditions``, their names.
    """
    if recipe.training.condition_dropout > 0:
        return []
    read = getattr(network, "reads_conditions", None)
    return [name for name in domain.conditions if read is None or name in read]


def require_conditions(recipe: Recipe, network: nn.Module, domain: Domain, given: Conditioning) -> None:
    """Refuse to ask a network for what it was never trained to do: a prediction without one of its conditions.

    Raises:
        AnydiffError: a condition is missing or declared absent; the sentence says how to give it.
    """
    missing = [
        name
        for name in never_hidden(recipe, network, domain)
        if name not in given.given or not bool(given.presence(name).all())
    ]
    if not missing:
        return
    name = next((each for each in missing if each in domain.condition_help), missing[0])
    raise AnydiffError(
        f"{recipe.name!r} was never trained without the condition {name!r}, so samples without it would mean nothing; "
        f"give --condition {name}={domain.condition_help.get(name, 'VALUE')}, or --cases N for held-out data (in "
        f"Python condition={{{name!r}: ...}})."
    )


def require_guidable(recipe: Recipe, network: nn.Module, domain: Domain, layers: Sequence[Wrapper]) -> None:
    """Refuse guidance (classifier-free, say) away from a prediction that the network was never trained to make.

    Raises:
        AnydiffError: the guidance hides a condition that no training hid.
    """
    fixed = never_hidden(recipe, network, domain)
    for layer in layers:
        hidden = layer.hides(fixed)
        if hidden:
            raise AnydiffError(
                f"{recipe.name!r} was never trained without the condition {hidden[0]!r}, so classifier-free guidance "
                "has nothing to lead away from; leave the guidance scale at 1, or train with "
                "training.condition_dropout=0.1."
            )


def number_of_cases(condition: Asked, cases: int | None, otherwise: int | None = None) -> int:
    """How many rows ``condition`` has, which must be ``cases`` where that is given; ``otherwise`` if nothing tells.

    Raises:
        AnydiffError: conditions of different numbers of rows, or no number at all.
    """
    held = dict(condition.tensors()) if isinstance(condition, Conditioning) else condition
    rows = {name: len(value) for name, value in held.items() if not isinstance(value, str)}
    if cases is not None:
        rows = {"cases": natural_number("cases", cases), **rows}
    if len(set(rows.values())) > 1:
        raise AnydiffError(f"the conditions have different numbers of rows, {rows}; give one row per case to each.")
    if not rows and otherwise is not None:
        return otherwise
    if not rows:
        raise AnydiffError("the number of cases cannot be told from the condition; give cases=.")
    return next(iter(rows.values()))


def known_entries(
    domain: Domain, known: Tensor | Sequence[Any] | None, mask: Tensor | None, count: int
) -> Known | None:
    """The entries that must come out as they are, one row per sample; None without ``known``.

    Args:
        domain: encodes what is known, where it is not a tensor already.
        known: clean states or native objects, one per sample or one for all.
        mask: which of their entries are known.
        count: how many samples.
    """
    if (known is None) != (mask is None):
        missing, given = ("known_mask", "known") if mask is None else ("known", "known_mask")
        raise AnydiffError(f"{given} was given without {missing}; give both.")
    if known is None or mask is None:
        return None
    states = known if isinstance(known, Tensor) else domain.encode(known)
    shape = tuple(domain.spec.shape)
    rows = []
    for name, value in (("known", states), ("known_mask", torch.as_tensor(mask))):
        one = value.reshape(1, *value.shape) if tuple(value.shape) == shape else value
        if tuple(one.shape[1:]) != shape or len(one) not in (1, count):
            raise AnydiffError(
                f"{name} has shape {tuple(value.shape)}, but must be {shape} or {(count, *shape)}: one state, or "
                "one per sample."
            )
        rows.append(one.expand(count, *shape))
    return Known(rows[0], rows[1].bool())


def with_known_nodes(domain: Domain, mask: Tensor, fixed: Known, sized: bool) -> Tensor:
    """``mask`` with every node of which a known entry is not zero; what a caller ``sized`` must have them already.

    Raises:
        AnydiffError: a known node is absent by the caller's own mask.
    """
    spec = domain.spec
    nodes = spec.mask_of(torch.where(fixed.mask, fixed.values, 0.0))
    mask = spec.check_mask(mask).bool()
    if len(mask) != len(nodes):  # the sampler says so
        return mask
    absent = (nodes & ~mask).nonzero()
    if sized and len(absent):
        row, node = absent[0].tolist()
        raise AnydiffError(
            f"known_mask fixes entries of node {node} of sample {row}, but the mask leaves that node out; ask for "
            "more nodes."
        )
    return mask | nodes
