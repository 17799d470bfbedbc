"""The memory estimate: exact on a network worked out by hand, and near what a process really takes."""

import pytest
import torch
from torch import nn

from anydiff.networks import UNet, estimate_memory
from anydiff.states import ClassCondition, Conditioning, StateSpec
from anydiff.testing.memory import can_measure, measured_memory


class Wide(nn.Module):
    """x -> relu(W x) -> V relu(W x): 4 -> 100 -> 4."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(4, 100), nn.Linear(100, 4)

    def forward(self, x, log_snr, condition):
        return self.narrow(torch.relu(self.wide(x)))


def test_a_small_network_by_hand():
    estimate = estimate_memory(Wide(), (4,), batch=10)
    assert estimate.parameters == 4 * (400 + 100 + 400 + 4)
    # Input and log-SNR, the hidden layer before and after the rectifier.
    assert estimate.activations == 4 * (40 + 10 + 1000 + 1000)
    assert estimate.peak == estimate.parameters + estimate.activations
    assert estimate_memory(Wide(), (4,), batch=10, training=True).activations > estimate.activations


def test_nothing_is_allocated_and_conditions_are_counted():
    with torch.device("meta"):
        network = UNet(StateSpec.single((1, 128, 128, 128)), {"label": ClassCondition(3)}, channels=32)
    label = torch.zeros(1, 3)
    estimate = estimate_memory(network, (1, 128, 128, 128), condition=Conditioning({"label": label}))
    assert 0.5e9 < estimate.activations < 8e9, "a volume of 128 voxels a side fits into 8 GB"
    double = estimate_memory(
        network, (1, 128, 128, 128), batch=2, condition=Conditioning({"label": label.expand(2, -1)})
    )
    assert double.activations == pytest.approx(2 * estimate.activations, rel=0.01)


MADE = """
import torch
from anydiff.networks import UNet
from anydiff.states import StateSpec

def made(batch, *shape):
    return UNet(StateSpec.single((1, *shape)), {}, channels=16, multipliers=[1, 2]), torch.randn(batch, 1, *shape)
"""


@pytest.mark.skipif(not can_measure(), reason="reads the peak of a process from Linux")
@pytest.mark.parametrize("sides", [(64, 1024), (32, 64, 64), (1, 64, 64, 64)], ids=["line", "image", "volume"])
def test_the_estimate_is_within_a_fifth_of_what_a_process_takes(sides):
    found = measured_memory(MADE, [2, *(12 for _ in sides[1:])], [(sides, False), (sides, True)])
    assert [estimate / measured for estimate, measured in found] == pytest.approx([1, 1], abs=0.2)


def test_checkpointing_changes_memory_and_no_number():
    spec = StateSpec.single((1, 24, 24))
    torch.manual_seed(0)
    plain = UNet(spec, {}, channels=8, multipliers=[1, 2], blocks=3)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    saving = UNet(spec, {}, channels=8, multipliers=[1, 2], blocks=3, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    x, log_snr = torch.randn(2, 1, 24, 24), torch.zeros(2)
    gradients = []
    for network in (plain, saving):
        network(x, log_snr).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))
    sizes = [estimate_memory(network, spec.shape, batch=8, training=True).activations for network in (plain, saving)]
    assert sizes[1] < 0.6 * sizes[0]
