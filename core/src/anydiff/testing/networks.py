"""Networks: shape, rows that do not mix, save and load, gradients in every parameter."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from anydiff.registry import Entry
from anydiff.states import UNCONDITIONAL, ArrayCondition, ClassCondition, Conditioning, StateSpec
from anydiff.testing.built import build_network
from anydiff.testing.fresh import ask
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip
from anydiff.training import load_into, load_weights, save_weights

LIMIT_SECONDS = 120.0
Inputs = tuple[Tensor, Tensor, Conditioning]


def awake(network: nn.Module) -> nn.Module:
    """The network with every parameter moved, since many start at zero on purpose."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def network_inputs(network: nn.Module, spec: StateSpec, rows: int, seed: int = 11) -> Inputs:
    """States, what is told of the time, and a value for each condition that the network knows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, *spec.shape, generator=generator)
    if spec.categorical:  # any class, the mask among them
        most = min(leaf.classes or 0 for leaf in spec.leaves)
        x = torch.randint(0, most + 1, x.shape, generator=generator)
    condition: dict[str, Tensor] = {}
    for module in network.modules():
        for name, kind in getattr(module, "conditions", {}).items() if hasattr(module, "nulls") else ():
            if isinstance(kind, ClassCondition):
                condition[name] = torch.arange(rows) % kind.classes
            elif isinstance(kind, ArrayCondition):
                condition[name] = torch.randn(rows, *kind.shape, generator=generator)
            else:
                condition[name] = torch.randn(rows, kind.size, generator=generator)
    for name, kind in getattr(network, "array_conditions", {}).items():
        condition[name] = torch.randn(rows, *kind.shape, generator=generator)
    return x, torch.linspace(-2, 2, rows), Conditioning(condition)


@check("network.shape", "networks")
def shape(plugin: Subject, entry: Entry) -> None:
    """The prediction has the state's shape and is finite, for batches of 1, 2 and 5, with and without conditions.

    Of classes it has K numbers per entry.
    """
    network, spec = build_network(plugin, entry)
    for rows in (1, 2, 5):
        x, log_snr, condition = network_inputs(network, spec, rows)
        for given in (UNCONDITIONAL, condition):
            with torch.no_grad():
                out = network(x, log_snr, given)
            wanted = (rows, *spec.prediction.shape)
            require(out.shape == wanted, f"{tuple(x.shape)} goes in, but {tuple(out.shape)} comes out, not {wanted}.")
            require(out.dtype == torch.float32 and out.isfinite().all(), "the prediction is not finite float32.")


@check("network.rows", "networks")
def rows(plugin: Subject, entry: Entry) -> None:
    """In evaluation a row's prediction does not depend on the other rows."""
    network, spec = build_network(plugin, entry)
    x, log_snr, condition = network_inputs(awake(network), spec, 4)
    with torch.no_grad():
        together = network(x, log_snr, condition)
        for row in range(4):
            part = slice(row, row + 1)
            alone = network(x[part], log_snr[part], condition.rows(part))
            close = torch.allclose(alone, together[part], rtol=1e-3, atol=1e-4)
            require(close, f"row {row} alone is predicted differently than among four.")


@check("network.reads", "networks", optional=True)
def reads(plugin: Subject, entry: Entry) -> None:
    """What it says not to read (reads_conditions) has no influence, since samples are then drawn without it."""
    network, spec = build_network(plugin, entry)
    named = getattr(network, "reads_conditions", None)
    if named is None:
        skip("it has no reads_conditions, so every condition counts as read.")
    x, log_snr, found = network_inputs(awake(network), spec, 2)
    condition = found.with_given(**_of_domain(plugin, entry, 2))
    for name in named:
        known = sorted(condition.given)
        require(name in known, f"reads_conditions names {name!r}, but its conditions are {known}.")
    for name in condition.given:
        if name in named:
            continue
        with torch.no_grad():
            same = torch.equal(network(x, log_snr, condition), network(x, log_snr, condition.without([name])))
        require(same, f"{name!r} changes the prediction, but is not in reads_conditions; name it there.")


def _of_domain(plugin: Subject, entry: Entry, rows: int) -> dict[str, Tensor]:
    """The conditions of the first rows of the data that the network is trained on; none where they are not at hand."""
    recipe = plugin.recipe_of(entry)
    if recipe is None or plugin.absent_data(recipe):
        return {}
    from anydiff.recipes.build import build_dataset, build_domain

    condition = build_dataset(recipe, "train").batch(range(rows))[1]
    return dict(condition.only(build_domain(recipe).conditions).given)


@check("network.saves", "networks")
def saves(plugin: Subject, entry: Entry) -> None:
    """Saved and loaded into a network built anew, it predicts the same."""
    network, spec = build_network(plugin, entry)
    inputs = network_inputs(awake(network), spec, 2)
    path = plugin.scratch / f"{entry.name.replace('/', '-')}.safetensors"
    save_weights(path, network.state_dict(), {}, overwrite=True)
    other, _ = build_network(plugin, entry, seed=1)
    load_into(other, load_weights(path)[0], repr(str(path)))
    with torch.no_grad():
        one, two = (each(*inputs) for each in (network, other))
    require(torch.equal(one, two), "loaded from its own weights it predicts something else: a state is not saved.")


@check("network.fresh", "networks")
def fresh(plugin: Subject, entry: Entry) -> None:
    """Saved and loaded in a process of its own, it predicts the same: all it needs is in the file and the options."""
    network, spec = build_network(plugin, entry)
    x, log_snr, condition = network_inputs(awake(network), spec, 2)
    stem = str(plugin.scratch / entry.name.replace("/", "-"))
    files = {name: f"{stem}-{name}.safetensors" for name in ("weights", "inputs", "answer")}
    save_weights(files["weights"], network.state_dict(), {}, overwrite=True)
    save_weights(files["inputs"], {"x": x, "log_snr": log_snr, **dict(condition.tensors())}, {}, overwrite=True)
    question = {"plugin": plugin.name, "network": entry.name, "threads": torch.get_num_threads(), **files}
    said = ask(question, LIMIT_SECONDS)
    require(not said, f"in a process of its own it cannot be loaded and called ({said}).")
    with torch.no_grad():
        here = network(x, log_snr, condition)
    there = load_weights(files["answer"])[0]["prediction"]
    close = here.shape == there.shape and torch.allclose(here, there, rtol=1e-4, atol=1e-5)
    require(close, "the same weights predict something else in another process: it depends on more than its state.")


@check("network.compiled", "networks")
def compiled(plugin: Subject, entry: Entry) -> None:
    """Captured as a graph by torch.compile (without code generation) it predicts what it predicts eagerly."""
    network, spec = build_network(plugin, entry)
    x, log_snr, condition = network_inputs(awake(network), spec, 3)
    torch.compiler.reset()
    try:
        with torch.no_grad():
            eager = network(x, log_snr, condition)
            captured = torch.compile(network, backend="eager")(x, log_snr, condition)
    finally:
        torch.compiler.reset()
    close = torch.allclose(eager, captured, rtol=1e-4, atol=1e-5)
    require(close, "compiled it predicts something else than eagerly.")


@check("network.equivariant", "networks", optional=True)
def equivariant(plugin: Subject, entry: Entry) -> None:
    """Registered with equivariant="nodes", it gives permuted predictions for permuted nodes, absent ones included."""
    if entry.metadata.get("equivariant") != "nodes":
        skip('it does not register equivariant="nodes".')
    network, spec = build_network(plugin, entry)
    x, log_snr, condition = network_inputs(awake(network), spec, 3)
    nodes = next((leaf.shape[leaf.mask_axes[0]] for leaf in spec.leaves if leaf.mask_axes), 0)
    require(nodes > 1, "it is registered as equivariant, but no leaf of its state has mask_axes.")
    mask = torch.ones(3, nodes, dtype=torch.bool)
    mask[1, -1] = False
    x = spec.project(x, mask)
    order = torch.randperm(nodes, generator=torch.Generator().manual_seed(17))
    with torch.no_grad():
        plain = network(x, log_snr, replace(condition, mask=mask))
        turned = network(_permuted(spec, x, order), log_snr, replace(condition, mask=mask[:, order]))
    close = torch.allclose(_permuted(spec, plain, order), turned, rtol=1e-4, atol=1e-5)
    require(close, "for permuted nodes the prediction is not the permuted one.")


def _permuted(spec: StateSpec, x: Tensor, order: Tensor) -> Tensor:
    leaves = spec.unpack(x)
    for leaf in spec.leaves:
        for axis in leaf.mask_axes:
            leaves[leaf.name] = leaves[leaf.name].index_select(axis + 1, order)
    return spec.pack(leaves)


@check("network.gradients", "networks")
def gradients(plugin: Subject, entry: Entry) -> None:
    """Every trainable parameter gets a gradient that is finite and not all zero."""
    network, spec = build_network(plugin, entry)
    awake(network)
    network.train()
    missed: list[str] = []
    # Some conditions hide a part by chance, a sequence that shows one frame, say: then other inputs are tried too.
    for seed in range(11, 17):
        x, log_snr, condition = network_inputs(network, spec, 4, seed)
        weight = torch.randn(len(x), *spec.prediction.shape, generator=torch.Generator().manual_seed(13))
        # Once with the conditions and once without, so that the embeddings of absent conditions are used too.
        ((network(x, log_snr, condition) + network(x, log_snr)) * weight).sum().backward()
        missed = [name for name, parameter in network.named_parameters() if not _has_gradient(parameter)]
        if not missed:
            return
    require(not missed, f"no gradient reaches the parameter {missed[0]!r}.")


def _has_gradient(parameter: nn.Parameter) -> bool:
    """Whether a trainable parameter has a gradient that is finite and not all zero."""
    gradient = parameter.grad
    return not parameter.requires_grad or (gradient is not None and bool(gradient.isfinite().all() and gradient.any()))
