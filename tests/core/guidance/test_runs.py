"""A guidance that draws or remembers: it is told which samples it guides, and remembers one run at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from exact import Counting
from torch import Tensor

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.denoisers.wrappers import PresentNodes, TimeShift, Windows, wrapped
from anydiff.guidance import ClassifierFree, Guidance, with_and_without
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.states import Conditioning, StateSpec

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.6, -0.9]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 1, 0])


def oracle():
    return GaussianMixtureOracle(VPLinear(), MEANS, 0.3)


@dataclass
class Remembering(Guidance):
    """The mean of all data predictions of this run so far, shifted by the number of the sample."""

    total: Tensor | float = field(default=0.0, init=False)
    calls: int = field(default=0, init=False)

    def for_run(self, samples):
        return replace(self)

    def data(self, denoiser, x, t, condition):
        self.total = self.total + denoiser(x, t, condition)
        self.calls += 1
        return self.total / self.calls + 0.01 * condition.index.to(x)[:, None]


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "heun"])
def test_samples_do_not_depend_on_the_batch_size(solver):
    options = {"guidance": Remembering(), "condition": {"label": LABELS}, "dtype": torch.float64}
    options |= {"solver": solver, "nfe": 6}
    whole = sample(oracle(), (2,), 5, batch_size=5, **options)
    for rows in (1, 2, 3):
        parts = sample(oracle(), (2,), 5, batch_size=rows, **options)
        torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    some = sample(oracle(), (2,), [3, 1], **{**options, "condition": {"label": LABELS[[3, 1]]}})
    torch.testing.assert_close(some, whole[[3, 1]], rtol=1e-9, atol=1e-9)
    assert options["guidance"] == Remembering()


def test_a_guidance_is_told_which_sample_it_guides():
    seen = []

    @dataclass(frozen=True)
    class Numbered(Guidance):
        def for_run(self, samples):
            seen.append(list(samples))
            return self

        def data(self, denoiser, x, t, condition):
            return denoiser(x, t, condition)

    sample(oracle(), (2,), [7, 3, 5], nfe=3, solver="ddim", guidance=[Numbered()], batch_size=2)
    assert seen == [[7, 3], [5]]


def test_an_inner_guidance_sees_whole_copies_of_its_samples():
    layers = [Remembering(), ClassifierFree(2.0)]
    condition = {"label": LABELS}
    whole, parts = (
        sample(oracle(), (2,), 5, nfe=4, guidance=layers, condition=condition, batch_size=rows, dtype=torch.float64)
        for rows in (5, 2)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "layer",
    [ClassifierFree(2.0), TimeShift(carry="data"), TimeShift(), Windows((2,)), PresentNodes(StateSpec.single((2,)))],
)
def test_every_wrapper_has_native_and_predict_of_one_kind(layer):
    x = torch.tensor([[0.3, -0.4], [-1.2, 0.5]], dtype=torch.float64)
    guided = layer(oracle())
    condition = Conditioning({"label": torch.tensor([0, 2])})
    native = guided.native(x, 0.5, condition)
    assert torch.equal(native, guided.predict(x, 0.5, guided.native_kind, condition))
    assert guided.path is guided.inner.path
    assert wrapped(oracle(), None).__class__ is GaussianMixtureOracle


def test_both_predictions_are_one_call_of_twice_the_rows():
    counting = Counting(oracle())
    x = torch.tensor([[0.3, -0.4], [-1.2, 0.5]], dtype=torch.float64)
    condition = Conditioning({"label": torch.tensor([0, 2])})
    given, free = with_and_without(counting, x, 0.5, condition)
    assert counting.calls == [(0.5, 4)]
    torch.testing.assert_close(given, oracle()(x, 0.5, condition))
    torch.testing.assert_close(free, oracle()(x, 0.5))
    assert ClassifierFree(2.0).hides(["a", "b"]) == ("a", "b")
    assert ClassifierFree(2.0, names=("b",)).hides(["a", "b"]) == ("b",)
    assert ClassifierFree(1.0).hides(["a", "b"]) == ()
