"""Windows: weights that sum to one, the identity, and a local network that cannot tell windows from the whole."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from anydiff.denoisers import FunctionDenoiser
from anydiff.denoisers.wrappers import Windows, sweep
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.paths import VPCosine
from anydiff.samplers import sample
from anydiff.states import Conditioning

PATH = VPCosine()
blends = st.sampled_from(["constant", "linear", "gaussian"])


@given(data=st.data(), blend=blends)
def test_the_weights_of_every_position_sum_to_one(data, blend):
    axes = data.draw(st.integers(1, 3))
    window = tuple(data.draw(st.integers(2, 6)) for _ in range(axes))
    overlap = tuple(data.draw(st.integers(0, size - 1)) for size in window)
    margin = data.draw(st.integers(0, min(overlap) // 2))
    sizes = tuple(size + data.draw(st.integers(0, 9)) for size in window)
    total = np.zeros(sizes)
    for where, weights in Windows(window, overlap, margin, blend).places(sizes):
        assert weights.shape == window
        assert (weights >= 0).all()
        total[where] += weights
    assert np.abs(total - 1).max() < 1e-12


@pytest.mark.parametrize("blend", ["constant", "linear", "gaussian"])
def test_the_identity_stays_the_identity(blend):
    x = torch.randn(2, 3, 17, 9, generator=torch.Generator().manual_seed(0))
    identity = FunctionDenoiser(lambda x, t: x, PATH)
    assert torch.allclose(Windows((8, 6), 3, blend=blend, batch=3)(identity)(x, 0.5), x, atol=1e-6)


def local(dimensions, generator):
    """Two convolutions: a receptive radius of 3."""
    convolution = (functional.conv1d, functional.conv2d, functional.conv3d)[dimensions - 1]
    first = torch.randn(4, 2, *[3] * dimensions, generator=generator) / 3**dimensions**0.5
    second = torch.randn(1, 4, *[5] * dimensions, generator=generator) / 5**dimensions**0.5

    def network(x, t, condition):
        map, shift = condition.given.get("map"), condition.given.get("shift")
        both = torch.cat([x, torch.zeros_like(x) if map is None else map], dim=1)
        out = convolution(torch.tanh(convolution(both, first, padding=1)), second, padding=2)
        return out if shift is None else out + shift.reshape(-1, 1, *[1] * dimensions)

    return FunctionDenoiser(network, PATH, "noise")


@pytest.mark.parametrize(("dimensions", "size", "window"), [(1, 61, 17), (2, 33, 13), (3, 21, 12)])
@pytest.mark.parametrize("blend", ["constant", "gaussian"])
def test_windows_of_a_local_network_equal_the_whole(dimensions, size, window, blend):
    generator = torch.Generator().manual_seed(1)
    denoiser = local(dimensions, generator)
    x = torch.randn(2, 1, *[size] * dimensions, generator=generator)
    condition = Conditioning({"map": torch.randn(x.shape, generator=generator), "shift": torch.tensor([0.3, -2.0])})
    windowed = Windows((window,) * dimensions, overlap=6, margin=3, blend=blend, batch=5)(denoiser)
    whole = denoiser(x, 0.4, condition)
    assert torch.allclose(windowed(x, 0.4, condition), whole, atol=1e-5)
    times = torch.tensor([0.4, 0.7], dtype=torch.float64)
    assert torch.allclose(windowed(x, times, condition), denoiser(x, times, condition), atol=1e-5)
    no_margin = Windows((window,) * dimensions, overlap=6, blend=blend)(denoiser)
    assert not torch.allclose(no_margin(x, 0.4, condition), whole, atol=1e-3), "or the test could not fail"


def test_a_plan_runs_through_windows_as_through_the_whole():
    denoiser = local(2, torch.Generator().manual_seed(2))
    options = {"nfe": 5, "seed": 3, "condition": {"shift": torch.tensor([0.1, 0.2])}}
    windows = Windows((16, 16), 6, margin=3)
    whole = sample(denoiser, (1, 40, 24), 2, **options)
    assert torch.allclose(sample(denoiser, (1, 40, 24), 2, guidance=windows, **options), whole, atol=1e-4)


def test_an_inner_guidance_and_an_outer_one_agree():
    def network(x, t, condition):
        shift = torch.where(condition.presence("shift"), condition.given["shift"], 0)
        return x.tanh() + shift.reshape(-1, 1, 1)

    denoiser, free, windows = FunctionDenoiser(network, PATH), ClassifierFree(2.0), Windows((6,), 2)
    x, condition = (
        torch.randn(2, 1, 15, generator=torch.Generator().manual_seed(4)),
        Conditioning({"shift": torch.tensor([1.0, 3.0])}),
    )
    assert torch.allclose(windows(free(denoiser))(x, 0.3, condition), free(windows(denoiser))(x, 0.3, condition))


def test_sweep_writes_to_a_file_one_window_at_a_time(tmp_path):
    generator = torch.Generator().manual_seed(5)
    denoiser = local(3, generator)
    x = torch.randn(1, 1, 20, 24, 16, generator=generator)
    source = np.memmap(tmp_path / "in.raw", np.float32, "w+", shape=(20, 24, 16))
    source[:] = x[0, 0].numpy()
    target = np.memmap(tmp_path / "out.raw", np.float32, "w+", shape=(20, 24, 16))
    target[:] = 7.0
    seen = []

    def function(window):
        seen.append(window.shape)
        return denoiser(torch.from_numpy(window.copy())[None, None], 0.4)[0, 0].numpy()

    sweep(function, source, target, Windows((12, 12, 12), 6, margin=3))
    assert np.abs(np.asarray(target) - denoiser(x, 0.4)[0, 0].numpy()).max() < 1e-5
    assert set(seen) == {(12, 12, 12)}
    with pytest.raises(AnydiffError, match="make them equal"):
        sweep(function, source, target[:-1], Windows((12, 12, 12)))


def test_bad_windows_are_one_sentence():
    for options, message in [
        ({"window": (0,)}, "window is 0"),
        ({"window": (4,), "overlap": 4}, "less than the window's 4"),
        ({"window": (4, 4), "overlap": (1,)}, "one number per axis"),
        ({"window": (8,), "overlap": 3, "margin": 2}, "overlap must be at least 4"),
        ({"window": (8,), "blend": "tent"}, "unknown blend"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            Windows(**options)
    with pytest.raises(AnydiffError, match="none shorter"):
        list(Windows((8, 8)).places((8, 7)))
    with pytest.raises(AnydiffError, match="as many axes"):
        list(Windows((8, 8)).places((8,)))
