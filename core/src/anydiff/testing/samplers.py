"""Samplers that are no plans, on a Gaussian whose flow is known exactly: limit, batches, calls, noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import GaussianOracle
from anydiff.paths import VPLinear
from anydiff.registry import Entry
from anydiff.samplers import Sampler, SampleRequest, sample
from anydiff.solvers.executor import Step
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require

MEAN, STD = (0.3, -0.4), 0.5
COUNT = 512
TOLERANCE = 0.15
"""In deviations: what 512 samples leave open (three standard errors), and a little for a method's own error."""


def _sampler(plugin: Subject, entry: Entry) -> Sampler:
    made: Sampler = plugin.build(entry)
    require(isinstance(made, Sampler), f"it builds a {type(made).__name__}, which is no anydiff.samplers.Sampler.")
    return made


def _oracle() -> GaussianOracle:
    return GaussianOracle(VPLinear(), torch.tensor(MEAN, dtype=torch.float64), STD**2)


def _drawn(sampler: Sampler, count: int | list[int], **options: Any) -> Tensor:
    return sample(_oracle(), (2,), count, solver=sampler, **options).double()


@check("sampler.exact", "samplers")
def exact(plugin: Subject, entry: Entry) -> None:
    """Samples of a Gaussian have its mean and deviation, and the shape that was asked for."""
    drawn = _drawn(_sampler(plugin, entry), COUNT, batch_size=COUNT)
    require(tuple(drawn.shape) == (COUNT, 2), f"{COUNT} samples of shape (2,) come as {tuple(drawn.shape)}.")
    off = float((drawn.mean(0) - torch.tensor(MEAN)).abs().max()) / STD
    require(off < TOLERANCE, f"the samples' mean is {off:.2g} deviations off that of a Gaussian.")
    wide = float((drawn.std(0) / STD - 1).abs().max())
    require(wide < TOLERANCE, f"the samples' deviation is {100 * wide:.2g} % off that of a Gaussian.")


@check("sampler.batch", "samplers")
def batch(plugin: Subject, entry: Entry) -> None:
    """A sample is the same whichever others are asked for; in one batch with others within a tenth of a deviation."""
    sampler = _sampler(plugin, entry)
    alone = _drawn(sampler, 4, seed=5, batch_size=1)
    some = _drawn(sampler, [3, 1], seed=5, batch_size=1)
    require(torch.equal(some, alone[[3, 1]]), "sample k depends on which other samples are drawn.")
    together = float((_drawn(sampler, 4, seed=5, batch_size=4) - alone).abs().max())
    require(together < STD / 10, f"a sample changes by {together:.2g} with the batch it is drawn in.")


@check("sampler.calls", "samplers")
def calls(plugin: Subject, entry: Entry) -> None:
    """Callbacks are told of every network call, and nfe says how many there were."""
    sampler, oracle = _sampler(plugin, entry), _oracle()
    told: list[Step] = []
    made = 0
    native = oracle.native

    def counted(x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        nonlocal made
        made += 1
        return native(x, t, condition)

    oracle.native = counted  # type: ignore[method-assign]
    sampler.sample(SampleRequest(2, callbacks=[told.append]), oracle, StateSpec.single((2,)))
    require(len(told) == made, f"it makes {made} network calls, but tells the callbacks of {len(told)} (chunk.tell).")
    require(sampler.nfe == made, f"it makes {made} network calls, but nfe says {sampler.nfe}.")


@check("sampler.noise", "samplers")
def noise(plugin: Subject, entry: Entry) -> None:
    """From a given start a deterministic sampler gives the same for any seed, a stochastic one does not."""
    sampler = _sampler(plugin, entry)
    start = torch.tensor([[0.4, -1.0], [1.3, 0.2]])
    first, second = (_drawn(sampler, 2, seed=seed, start=start) for seed in (0, 1))
    same, stochastic = torch.equal(first, second), bool(entry.metadata.get("stochastic"))
    require(same != stochastic, f"it registers stochastic={stochastic}, but {'no' if same else 'a'} seed changes it.")
