"""Time shift: the mechanism of TS-DPM on states of a known level, and that it harms nothing."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from exact import Counting, solver_entries

from anydiff.denoisers import Denoiser, FunctionDenoiser, GaussianMixtureOracle, NetworkDenoiser
from anydiff.denoisers.wrappers import TimeShift
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.networks import MLP
from anydiff.paths import EDM, GaussianPath, VPLinear
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.solvers.plan import Evaluate
from anydiff.states import UNCONDITIONAL, StateSpec

VP = VPLinear()


def target(size: int, path: GaussianPath = VP) -> GaussianMixtureOracle:
    """Sheet ts-dpm: 12 Gaussians, means 0.5 N, sd 0.1; a sample's entries have a variance near 0.26."""
    means = 0.5 * torch.randn(12, size, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return GaussianMixtureOracle(path, means, 0.1)


def states(size: int, t: float, count: int = 300) -> tuple[torch.Tensor, float]:
    """``count`` states exactly at level t, and the data's variance v_0."""
    generator = torch.Generator().manual_seed(1)
    clean = target(size).sample(count, generator)
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    return VP.alpha(t) * clean + VP.sigma(t) * noise, float(target(size).sample(2000, generator).var(dim=1).mean())


def mean_time(x: torch.Tensor, t: float, v0: float, window: float = 0.12) -> float:
    """In the paper's steps of 1000."""
    return 1000 * float(TimeShift(window, cutoff=0.0, data_variance=v0).times(VP, x, t).mean())


@pytest.mark.parametrize(("t", "tolerance"), [(0.2, 4.0), (0.4, 8.0)])
def test_states_at_their_level_are_recognised(t: float, tolerance: float) -> None:
    """Sheet, claim (a)."""
    x, v0 = states(1024, t)
    assert abs(mean_time(x, t, v0) - 1000 * t) <= tolerance


def test_without_the_datas_variance_small_times_are_taken_for_later_ones() -> None:
    x, _ = states(1024, 0.2)
    assert mean_time(x, 0.2, 0.0) - 200 > 40


def test_the_shift_follows_the_true_level() -> None:
    x, v0 = states(1024, 0.2)
    later, _ = states(1024, 0.23)
    assert mean_time(later, 0.2, v0) - mean_time(x, 0.2, v0) == pytest.approx(30, abs=6)


@pytest.mark.parametrize(("size", "t", "empirical"), [(1024, 0.2, 11.5), (3072, 0.2, 6.6), (3072, 0.3, 10.2)])
def test_the_resolution_is_what_times_scatter_by(size: int, t: float, empirical: float) -> None:
    x, v0 = states(size, t)
    shift = TimeShift(2.0, cutoff=0.0, data_variance=v0)
    predicted = 1000 * shift.resolution(VP, t, size)
    assert 1000 * float(shift.times(VP, x, t).std()) == pytest.approx(predicted, rel=0.15)
    assert predicted == pytest.approx(empirical, rel=0.15)
    limited = TimeShift(2.0, 0.0, v0, largest_std=predicted / 1000)
    assert limited.times(VP, x, t + 0.01) is None, "a coarser time was shifted"
    assert torch.equal(limited.times(VP, x, t - 0.01), shift.times(VP, x, t - 0.01))


@pytest.mark.parametrize("v0", [0.0, 0.26, 4.0])
def test_a_variance_that_fits_a_time_gives_that_time(v0: float) -> None:
    """Also where the variance falls in time (v_0 above 1)."""
    shift = TimeShift(0.06, data_variance=v0)
    base = torch.randn(1, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for tau in (0.471, 0.5, 0.52, 0.529):
        level = VP.alpha(tau) ** 2 * v0 + VP.sigma(tau) ** 2
        x = base * math.sqrt(level / float(base.var()))
        assert float(shift.times(VP, x, 0.5)) == pytest.approx(tau, abs=0.06 / 256)


def test_window_range_shape_and_invariances() -> None:
    shift = TimeShift(0.04)
    x = torch.randn(7, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = shift.times(VP, x, 0.5)
    assert times.shape == (7,)
    assert times.dtype == torch.float64
    for t in (0.31, 0.5, 0.999):
        found = shift.times(VP, 3 * x, t)
        assert bool(((found - t).abs() <= 0.02 + 1e-12).all())
        assert float(found.max()) <= VP.t_start
    shuffled = x.flatten(1)[:, torch.randperm(24, generator=torch.Generator().manual_seed(1))].reshape(x.shape)
    torch.testing.assert_close(shift.times(VP, shuffled, 0.5), times)
    torch.testing.assert_close(shift.times(VP, x + 5.0, 0.5), times)
    wide = TimeShift(0.4, cutoff=0.0)
    assert bool((wide.times(VP, 0.9 * x, 0.5) < wide.times(VP, x * 0.95, 0.5) + 1e-12).all())
    for row in range(7):
        assert torch.equal(shift.times(VP, x[row : row + 1], 0.5)[0], times[row])
    mixed = torch.tensor([0.2, 0.5, 0.5, 1.0, 0.29, 0.9, 0.5], dtype=torch.float64)
    found = shift.times(VP, x, mixed)
    assert torch.equal(found[[0, 3, 4]], mixed[[0, 3, 4]]), "below the cutoff or at the prior a time moved"
    assert torch.equal(found[[1, 2, 6]], times[[1, 2, 6]])
    assert shift.times(VP, x, 0.3) is None
    assert shift.times(VP, x, 1.0) is None


@pytest.mark.parametrize("options", [{"window": 0.0}, {"cutoff": 1.0}, {"largest_std": 0.0}])
@pytest.mark.parametrize("solver", ["ddim", "dpm-solver++-2m", "heun", "f-pndm"])
def test_neutral_options_give_the_base_sampler_bit_for_bit(options, solver: str) -> None:
    oracle = target(16)
    plain = sample(oracle, (16,), 4, nfe=15, solver=solver)
    shifted = sample(oracle, (16,), 4, nfe=15, solver=solver, guidance=TimeShift(**options))
    assert torch.equal(shifted, plain)


@pytest.mark.parametrize("name", [entry.name for entry in solver_entries()])
def test_it_works_with_every_solver_at_the_same_cost(name: str) -> None:
    """Times above the cutoff come per sample, those below as the plan's own; no call is added."""
    network = Counting(target(16))
    out = sample(network, (16,), 3, nfe=12, solver=name, guidance=TimeShift(0.1))
    assert torch.isfinite(out).all()
    calls = network.calls
    plain = Counting(target(16))
    sample(plain, (16,), 3, nfe=12, solver=name)
    assert len(calls) == len(plain.calls)
    for (shown, _), (nominal, _) in zip(calls, plain.calls, strict=True):
        assert math.isnan(shown) if 0.3 < nominal < 1.0 else shown == nominal


@pytest.mark.parametrize("kind", ["noise", "velocity", "data"])
def test_what_is_carried_to_the_plans_time(kind: str) -> None:
    """ε at τ with the coefficients of t; and the other two choices."""
    seen: list[torch.Tensor] = []
    constant = torch.linspace(-1, 1, 8, dtype=torch.float64).expand(2, 8)

    def network(x: torch.Tensor, t) -> torch.Tensor:
        seen.append(t)
        return constant

    inner = FunctionDenoiser(network, VP, kind)
    x = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = 0.5
    shift = TimeShift(0.2)
    tau = shift.times(VP, x, t)
    assert float((tau - t).abs().min()) > 1e-3
    a, s = (f(tau)[:, None] for f in (VP.alpha, VP.sigma))
    noise = {"noise": constant, "velocity": s * x + a * constant, "data": (x - a * constant) / s}[kind]
    torch.testing.assert_close(shift(inner)(x, t), (x - VP.sigma(t) * noise) / VP.alpha(t))
    assert torch.equal(seen[-1], tau)
    torch.testing.assert_close(shift(inner).predict(x, t, "noise"), noise)
    native = dataclasses.replace(shift, carry="native")(inner)
    torch.testing.assert_close(native.predict(x, t, kind), constant)
    data = dataclasses.replace(shift, carry="data")(inner)
    torch.testing.assert_close(data(x, t), (x - s * noise) / a)


def test_a_network_is_told_the_shifted_log_snr() -> None:
    seen: list[torch.Tensor] = []

    class Network(MLP):
        def forward(self, x, log_snr, condition=UNCONDITIONAL):
            seen.append(log_snr)
            return super().forward(x, log_snr, condition)

    network: Denoiser = NetworkDenoiser(Network(StateSpec.single((6,)), {}, width=8, blocks=1), VP)
    x = torch.randn(3, 6)
    shift = registry().build("guidance", "time-shift", window=0.2)
    shift(network)(x, 0.5)
    torch.testing.assert_close(seen[-1].double(), VP.log_snr(shift.times(VP, x, 0.5)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_it_composes_with_classifier_free_guidance(order: int) -> None:
    label = torch.arange(4) % 12
    layers = [ClassifierFree(2.0), TimeShift(0.1)][::order]
    out = sample(target(16), (16,), 4, nfe=8, guidance=layers, condition={"label": label})
    assert torch.isfinite(out).all()


def energy_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_does_little_harm_to_an_exact_score(seed: int) -> None:
    """Sheet, claim (c): w = 20, t_c = 300, DDIM with 20 steps, at most 1.1 times the energy distance."""
    oracle = target(64)
    data = oracle.sample(1000, torch.Generator().manual_seed(100 + seed))
    distance = [
        energy_distance(
            sample(oracle, (64,), 1000, nfe=20, solver="ddim", grid="time", seed=seed, dtype=torch.float64,
                   batch_size=1000, guidance=guidance),
            data,
        )
        for guidance in (None, TimeShift(0.02, 0.3))
    ]  # fmt: skip
    assert distance[1] <= 1.1 * distance[0], distance


def test_a_variance_that_tells_nothing_is_told() -> None:
    x = torch.randn(3, 8, dtype=torch.float64)
    with pytest.raises(AnydiffError, match="tells none"):
        TimeShift(data_variance=1.0).times(VP, x, 0.5)
    assert TimeShift(data_variance=1.0).times(EDM(), 40 * x, 40.0) is not None
    with pytest.raises(AnydiffError, match="one entry"):
        TimeShift().times(VP, x[:, :1], 0.5)
    with pytest.raises(AnydiffError, match="window is -1"):
        TimeShift(-1.0)
    with pytest.raises(AnydiffError, match="did you mean 'noise'"):
        TimeShift(carry="noises")


def test_the_plan_is_the_same() -> None:
    """Its times are the nominal ones: the wrapper alone knows of others."""
    from anydiff.solvers import compile_plan

    plan = compile_plan("ddim", VP, 6)
    seen = []
    sample(target(16), (16,), 2, solver=plan, guidance=TimeShift(), callbacks=[lambda step: seen.append(step.t)])
    assert seen == [i.t for i in plan.instructions if isinstance(i, Evaluate)]
