"""encode_condition: once per sample set, however many network calls, samples of a case, and guidances follow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import Clamp
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.objectives import Denoising
from anydiff.paths import VPCosine
from anydiff.samplers import AdaptiveODE, sample
from anydiff.states import UNCONDITIONAL, Conditioning

FRAMES = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Sees(nn.Module):
    """Predicts a function of x and of what it read in the frames; counts the rows and calls that reading took."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.reads: list[int] = []

    def encode_condition(self, condition=UNCONDITIONAL):
        if "frames" not in condition.given or "frames" in condition.parts:
            return condition
        frames = condition.given["frames"]
        self.reads.append(len(frames))
        return condition.with_parts("frames", sum=frames.sum(1), tokens=frames.sin()[:, :2])

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        condition = self.encode_condition(condition)
        if "frames" not in condition.parts:
            return 0.1 * x
        made = condition.parts["frames"]
        seen = 0.3 * made["sum"][:, None] + made["tokens"]
        other = condition.given.get("other", torch.zeros(len(x)))
        return 0.1 * x + torch.where(condition.presence("frames")[:, None], seen, 0) + other[:, None]


class Unencoded(NetworkDenoiser):
    """The same network without the seam: every call reads the frames anew."""

    def encode_condition(self, condition=UNCONDITIONAL):
        return condition


def draw(kind=NetworkDenoiser, **options):
    network = Sees()
    settings = {"nfe": 6, "solver": "ddim", "dtype": torch.float64, **options}
    condition = settings.pop("more", UNCONDITIONAL).with_given(frames=FRAMES)
    out = sample(kind(network, VPCosine(), "data"), (2,), settings.pop("count", 4), condition=condition, **settings)
    return out, network.reads


@pytest.mark.parametrize("nfe", [1, 2, 9])
def test_the_condition_is_encoded_once_whatever_the_number_of_calls(nfe):
    out, reads = draw(nfe=nfe)
    assert reads == [4]
    assert torch.equal(out, draw(Unencoded, nfe=nfe)[0])


@pytest.mark.parametrize(
    "guidance",
    [Clamp(-2, 2), ClassifierFree(2.5), ClassifierFree(0.0), ClassifierFree(3.0, names=("frames",)), ClassifierFree()],
    ids=str,
)
def test_guidance_hides_what_was_encoded_as_it_hides_the_condition(guidance):
    other, present = torch.arange(4, dtype=torch.float64), torch.tensor([True, False, True, True])
    more = Conditioning({"other": other}, {"frames": present})
    out, reads = draw(guidance=[guidance, Clamp(-3, 3)], more=more)
    assert reads == [4]
    assert torch.equal(out, draw(Unencoded, guidance=[guidance, Clamp(-3, 3)], more=more)[0])


def test_samples_of_one_case_share_its_encoding():
    out, reads = draw(count=12, cases=4)
    assert reads == [4]
    rows = torch.arange(12) % 4
    network = Sees()
    denoiser = NetworkDenoiser(network, VPCosine(), "data")
    settings = {"nfe": 6, "solver": "ddim", "dtype": torch.float64}
    repeated = sample(denoiser, (2,), 12, condition={"frames": FRAMES[rows]}, **settings)
    assert torch.equal(out, repeated)
    assert network.reads == [12]
    chunked, reads = draw(count=12, cases=4, batch_size=5)
    assert torch.equal(out, chunked)
    assert reads == [4, 4, 2]
    few, reads = draw(count=[7], cases=4)
    assert reads == [1]
    assert torch.equal(few, draw(count=[7, 8, 9, 10], cases=4)[0][:1])


def test_cases_and_rows_must_agree():
    with pytest.raises(AnydiffError, match=r"condition 'frames' has .* where 3 rows are needed"):
        draw(count=12, cases=3)
    with pytest.raises(AnydiffError, match="cases is 0"):
        draw(count=12, cases=0)


def test_the_adaptive_ode_encodes_once_per_solve():
    network = Sees()
    denoiser = NetworkDenoiser(network, VPCosine(), "data")
    ode = AdaptiveODE(rtol=1e-4, atol=1e-4)
    out = sample(denoiser, (2,), 4, condition={"frames": FRAMES}, solver=ode)
    assert network.reads == [4]
    assert ode.nfe > 5
    plain = sample(
        Unencoded(Sees(), VPCosine(), "data"),
        (2,),
        4,
        condition={"frames": FRAMES},
        solver=AdaptiveODE(rtol=1e-4, atol=1e-4),
    )
    assert torch.equal(out, plain)


def test_training_reads_the_frames_in_its_one_call_and_gradients_reach_them():
    network = Sees()
    frames = FRAMES.clone().requires_grad_()
    clean = torch.zeros(4, 2, dtype=torch.float64)
    loss = Denoising("data")(
        NetworkDenoiser(network, VPCosine(), "data"),
        clean,
        clean + 1,
        torch.full((4,), 0.5),
        Conditioning({"frames": frames}),
    )
    loss.sum().backward()
    assert network.reads == [4]
    assert frames.grad.abs().min() > 0
