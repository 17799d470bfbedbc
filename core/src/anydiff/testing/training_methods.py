"""Training methods: groups, losses, companions and resumption, on points in the plane."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import torch

from anydiff.data.dataset import ArrayDataset
from anydiff.denoisers import NetworkDenoiser
from anydiff.networks import MLP
from anydiff.objectives import Denoising
from anydiff.paths import VPLinear
from anydiff.registry import Entry
from anydiff.testing.kit import check
from anydiff.testing.points import Points
from anydiff.testing.subject import Subject, require
from anydiff.training import Hardware, RunFolder, TrainingEvents, TrainingMethod, TrainingSettings, fit, weights_hash
from anydiff.training.examples import ExampleStream
from anydiff.training.method import checked_groups, checked_losses

ROWS = 6


class _Data(ArrayDataset):
    name, domain = "points", Points()

    def __init__(self) -> None:
        cloud = Points.cloud(24)
        super().__init__(cloud.states, cloud.condition.given)


def _method(plugin: Subject, entry: Entry) -> TrainingMethod:
    torch.manual_seed(3)
    network = MLP(Points().spec, Points().conditions, width=8, blocks=1)
    denoiser = NetworkDenoiser(network, VPLinear(), spec=Points().spec)
    made: TrainingMethod = plugin.build(entry, denoiser=denoiser, objective=Denoising())
    right = isinstance(made, TrainingMethod)
    require(right, f"it builds a {type(made).__name__}, which is no anydiff.training.TrainingMethod.")
    return made


def _settings(steps: int) -> TrainingSettings:
    return TrainingSettings(steps=4, batch_size=ROWS, micro_batch_size=4, checkpoint_every=steps, log_every=1)


class _Interrupted(Exception):
    """The first half of a training is over."""


class _Stop(TrainingEvents):
    def checkpoint_saved(self, folder: Path, step: int) -> None:
        if step == 2:
            raise _Interrupted


def _trained(plugin: Subject, entry: Entry, name: str, halves: bool) -> tuple[TrainingMethod, RunFolder]:
    """The method after four steps; with ``halves`` stopped after two, and resumed by a method that is built anew."""
    folder = plugin.scratch / f"{entry.name.replace('/', '-')}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    if halves:
        method, run = _method(plugin, entry), RunFolder.create(folder, {})
        with contextlib.suppress(_Interrupted):
            fit(method, _Data(), _settings(2), run, callbacks=[_Stop()], hardware=Hardware(accelerator="cpu"))
    method, run = _method(plugin, entry), RunFolder.create(folder, {}, resume=halves)
    fit(method, _Data(), _settings(4), run, resume=halves, hardware=Hardware(accelerator="cpu"))
    return method, run


@check("method.groups", "training_methods")
def groups(plugin: Subject, entry: Entry) -> None:
    """Its groups are disjoint, cover what can be trained in its modules, and each moves in a step."""
    method = _method(plugin, entry)
    # What a training refuses in a sentence is what this check says.
    found = checked_groups(method)
    for kind, companions in (("frozen", method.frozen()), ("averaged", method.averages())):
        both = set(companions) & set(method.modules())
        require(not both, f"{', '.join(sorted(both))} is among its {kind} companions and among its trained modules.")
    for group in found:
        method.optimiser(group, _settings(4))


@check("method.losses", "training_methods")
def losses(plugin: Subject, entry: Entry) -> None:
    """Each entry of its order gives the losses of its groups, one finite number per example, at every progress."""
    method = _method(plugin, entry)
    stream = ExampleStream(_Data(), method.denoiser.path, _settings(4))
    for progress in (0.0, 0.5, 1 - 2**-20):
        for together in method.order():
            examples = stream.examples(0, range(ROWS))
            found = checked_losses(method.step(examples, progress, tuple(together)), together, ROWS, entry.name)
            for group, terms in found.items():
                for term, loss in terms.items():
                    what = f"at progress {progress:.3g} the loss {term!r} of the group {group!r}"
                    require(loss.isfinite().all(), f"{what} is not finite.")
                    require(loss.requires_grad, f"{what} depends on no parameter.")


@check("method.companions", "training_methods")
def companions(plugin: Subject, entry: Entry) -> None:
    """In four steps every group moves, frozen companions do not, and averages follow."""
    before, (method, run) = _method(plugin, entry), _trained(plugin, entry, "moved", halves=False)
    first, last = checked_groups(before), checked_groups(method)
    for group, parameters in last.items():
        same = all(torch.equal(one, other) for one, other in zip(first[group], parameters, strict=True))
        require(not same, f"the parameters of the group {group!r} are the same after four steps as before.")
    kept = {name: weights_hash(module.state_dict()) for name, module in before.frozen().items()}
    for name, module in method.frozen().items():
        require(weights_hash(module.state_dict()) == kept[name], f"the frozen companion {name!r} moves in training.")
    state = run.load_state()
    assert state is not None
    for name, average in method.averages().items():
        held = weights_hash({key: value.float() for key, value in average.module.state_dict().items()})
        stored = weights_hash({key: value.float() for key, value in state["averages"][name]["tensors"].items()})
        require(held == stored, f"the averaged companion {name!r} is moved by something else than its average.")


@check("method.resume", "training_methods")
def resume(plugin: Subject, entry: Entry) -> None:
    """Stopped after two of four steps and resumed, it is the uninterrupted training bit for bit."""
    whole, _ = _trained(plugin, entry, "whole", halves=False)
    parts, _ = _trained(plugin, entry, "parts", halves=True)
    for name, module in whole.modules().items():
        same = weights_hash(module.state_dict()) == weights_hash(parts.modules()[name].state_dict())
        require(same, f"resumed, the module {name!r} differs: what it keeps between steps is in no module's buffers.")
