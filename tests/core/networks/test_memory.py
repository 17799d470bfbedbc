"""The memory estimate: exact on a network worked out by hand, and near what a process really takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from anydiff.networks import ClassCondition, UNet, estimate_memory
from anydiff.states import StateSpec


class Wide(nn.Module):
    """x -> relu(W x) -> V relu(W x): 4 -> 100 -> 4."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(4, 100), nn.Linear(100, 4)

    def forward(self, x, log_snr):
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
    estimate = estimate_memory(network, (1, 128, 128, 128), condition={"label": label})
    assert 0.5e9 < estimate.activations < 8e9, "a volume of 128 voxels a side fits into 8 GB"
    double = estimate_memory(network, (1, 128, 128, 128), batch=2, condition={"label": label.expand(2, -1)})
    assert double.activations == pytest.approx(2 * estimate.activations, rel=0.01)


MEASURE = """
import gc, json, sys, torch
from pathlib import Path
from anydiff.networks import UNet, estimate_memory
from anydiff.states import StateSpec
torch.set_num_threads(1)
sides, training = json.loads(sys.argv[1]), sys.argv[2] == "training"

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def made(sides):
    shape = (1, *sides[1:])
    return UNet(StateSpec.single(shape), {}, channels=16, multipliers=[1, 2]), torch.randn(sides[0], *shape)

def call(network, x):
    result = network(x, torch.zeros(len(x)))
    if training:
        result.square().mean().backward()

with torch.set_grad_enabled(training):
    call(*made([2, *(12 for _ in sides[1:])]))  # the library's own start-up
    network, x = made(sides)
    estimate = estimate_memory(network, x.shape[1:], batch=len(x), training=training).activations
    gc.collect()
    before = status("VmRSS") - x.nbytes
    Path("/proc/self/clear_refs").write_text("5")
    call(network, x)
print(json.dumps([estimate, status("VmHWM") - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of a process from Linux")
@pytest.mark.parametrize("kind", ["sampling", "training"])
@pytest.mark.parametrize("sides", [(64, 1024), (32, 64, 64), (1, 64, 64, 64)], ids=["line", "image", "volume"])
def test_the_estimate_is_within_a_fifth_of_what_a_process_takes(sides, kind):
    """Memory that glibc would keep for itself goes back at once here, else single measurements differ twofold."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(sides), kind],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    estimate, measured = json.loads(done.stdout)
    assert estimate / measured == pytest.approx(1, abs=0.2)


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
