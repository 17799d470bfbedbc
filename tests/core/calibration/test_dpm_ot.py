"""DPM-OT: the map against closed forms, small assignments and the package of transport; latents, ratios, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch

from anydiff.calibration import DPMOT, Artefact, Setting, Spending, calibrate, memorisation_ratio, semi_discrete
from anydiff.calibration.reference import Trials
from anydiff.calibration.transport import _masses
from anydiff.denoisers import GaussianMixtureOracle
from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.paths import VPLinear
from anydiff.samplers import SampleRequest
from anydiff.samplers.sampler import noise_source
from anydiff.solvers import Coupled, cells
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec

PATH = VPLinear()
SPEC = StateSpec.single((2,))
LINE = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def oracle() -> GaussianMixtureOracle:
    means = torch.tensor([[-1.0, 0.0], [0.7, 0.8], [0.6, -0.9]], dtype=torch.float64)
    return GaussianMixtureOracle(PATH, means, 0.1, torch.tensor([1.0, 2.0, 3.0]))


# The map --------------------------------------------------------------------------------------------------------------
def test_three_points_on_a_line_split_the_normal_into_terciles():
    found = semi_discrete(
        LINE, steps=1500, source=lambda count, g: torch.randn(200 * count, 1, dtype=torch.float64, generator=g)
    )
    h, y = found.potentials, LINE[:, 0]
    edges = ((h[:-1] - h[1:]) / (y[1:] - y[:-1])).tolist()
    assert edges == pytest.approx([-0.4307, 0.4307], abs=0.02)
    x = drawn(500, 1).sort(0).values
    assert bool((cells(x, LINE, h).diff() >= 0).all())


def test_the_gradient_is_the_mass_of_the_cells_and_sums_to_nothing():
    x, y, h = drawn(4000, 3), drawn(5, 3, seed=1), drawn(5, seed=2)

    def energy(potentials: torch.Tensor) -> float:
        return float((x @ y.T + potentials).amax(1).mean() - potentials.mean())

    gradient = _masses(x, y, h) - 1 / 5
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-12)
    for k in range(5):
        step = torch.zeros(5, dtype=torch.float64)
        step[k] = 1e-4
        assert (energy(h + step) - energy(h - step)) / 2e-4 == pytest.approx(float(gradient[k]), abs=2e-3)
    other = drawn(5, seed=3)
    assert energy((h + other) / 2) <= (energy(h) + energy(other)) / 2
    assert torch.equal(cells(x, y, h), cells(x, y, h + 3.0))


def test_known_potentials():
    x, y = drawn(300, 4), drawn(20, 4, seed=1)
    assert torch.equal(cells(x, y, -y.square().sum(1) / 2), torch.cdist(x, y).argmin(1))
    assert torch.equal(cells(x, y[:1], torch.zeros(1)), torch.zeros(300, dtype=torch.int64))
    whole, twice = (4 * x).round(), (4 * torch.cat([y, y])).round()  # no rounding, so that ties are ties
    for chunk in (3, 7, 2048):
        assert torch.equal(cells(x, y, torch.zeros(20), chunk), cells(x, y, torch.zeros(20)))
        found = cells(whole, twice, torch.zeros(40), chunk)
        assert torch.equal(found, cells(whole, twice, torch.zeros(40)))
        assert int(found.max()) < 20  # of equal ones the first


def assignment(seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Six noises, six points, and the cost of the map that is fitted with exactly these noises."""
    x, y = drawn(6, 2, seed=seed), drawn(6, 2, seed=seed + 10)
    found = semi_discrete(y, steps=3000, rate=0.01, source=lambda count, generator: x)
    return x, y, float((x - y[cells(x, y, found.potentials)]).square().sum() / 6)


def test_six_noises_and_six_points_are_assigned_as_cheaply_as_can_be():
    x, y, cost = assignment(0)
    best = min(float((x - y[list(order)]).square().sum() / 6) for order in itertools.permutations(range(6)))
    assert cost == pytest.approx(best, abs=1e-6)


def test_the_package_of_transport_agrees():
    ot = pytest.importorskip("ot")
    for seed in (1, 2):
        x, y, cost = assignment(seed)
        exact = ot.emd2([1 / 6] * 6, [1 / 6] * 6, torch.cdist(x, y).square().numpy())
        assert cost == pytest.approx(float(exact), abs=1e-6)


def test_empty_cells_are_counted():
    one, inside = LINE[[0, 2]], torch.tensor([[0.3]], dtype=torch.float64)
    found = semi_discrete(torch.cat([one, inside]), steps=1)
    assert found.empty == int((found.masses == 0).sum())
    assert float(found.masses.sum()) == pytest.approx(1)
    with pytest.raises(AnydiffError, match="there are 0 points to jump to"):
        semi_discrete(LINE[:0])
    with pytest.raises(AnydiffError, match="must be finite"):
        semi_discrete(LINE * float("nan"))


# The start ------------------------------------------------------------------------------------------------------------
def test_sample_k_is_sample_k_whatever_the_batch():
    start = Coupled(drawn(7, 2), torch.zeros(7), 0.5)
    noise, like = noise_source(SPEC, 3, PATH), torch.empty(0, 2)
    whole = start.states(PATH, range(5), noise, UNCONDITIONAL, like)
    parts = [start.states(PATH, [k], noise, UNCONDITIONAL, like) for k in range(5)]
    assert torch.equal(whole, torch.cat(parts))


def test_stored_latents_are_of_one_condition():
    start = Coupled(drawn(7, 2), torch.zeros(7), 0.5, {"label": torch.tensor(3)})
    noise, like = noise_source(SPEC, 3, PATH), torch.empty(0, 2)
    start.states(PATH, [0], noise, Conditioning({"label": torch.tensor([3])}), like)
    for condition in (
        UNCONDITIONAL,
        Conditioning({"label": torch.tensor([4])}),
        Conditioning({"other": torch.ones(1)}),
    ):
        with pytest.raises(NotApplicableError, match="the stored latents are of the condition"):
            start.states(PATH, [0], noise, condition, like)
    with pytest.raises(AnydiffError, match="7 latents and potentials of shape"):
        Coupled(drawn(7, 2), torch.zeros(6), 0.5)
    with pytest.raises(AnydiffError, match=r"have shape \(2,\), but one sample has \(3,\)"):
        Coupled(drawn(7, 2), torch.zeros(7), 0.5).states(PATH, [0], noise, UNCONDITIONAL, torch.empty(0, 3))


# The method -----------------------------------------------------------------------------------------------------------
def test_the_memorisation_ratio_of_fresh_data_is_one_and_that_of_copies_nothing():
    stored, fresh, other = (drawn(500, 8, seed=k) for k in range(3))
    assert memorisation_ratio(other, stored, fresh) == pytest.approx(1, abs=0.1)
    assert memorisation_ratio(stored, stored, fresh) < 1e-5


def test_few_calls_from_stored_latents_win_and_tell_how_much_is_copied(tmp_path):
    method = DPMOT(level=0.1, steps=200)
    setting = Setting(nfe=(3,), count=128, fresh=128)
    artefact = calibrate(oracle(), (2,), method, setting, {"name": "t"}, out=tmp_path / "c.safetensors")
    entry = Artefact.load(tmp_path / "c.safetensors").entry(3, "")
    assert not entry.dropped
    assert entry.ratio[2] < 0.5
    assert artefact.entries[0].calls == entry.calls
    assert 0 < float(entry.values["memorisation"]) < 1.5
    assert "64 stored latents" in method.remark(entry.values)
    assert "memorisation ratio" in method.remark(entry.values)
    assert method.remark({}) == ""
    assert (tmp_path / "c.safetensors").stat().st_size < 1e6


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (DPMOT(level=1e5), r"level is 100000, but VPLinear.* has σ/α between 0.0105 and 152; choose one between"),
        (DPMOT(level=1e-3), "choose one between"),
    ],
)
def test_levels_off_the_path_are_refused(method, words):
    with pytest.raises(NotApplicableError, match=words):
        calibrate(oracle(), (2,), method, Setting(nfe=(3,), count=8, fresh=8), {"name": "t"})


def test_options_and_conditions_are_refused():
    for level in (0.0, float("nan"), "x"):
        with pytest.raises(AnydiffError, match="must be a positive number"):
            DPMOT(level=level)
    labels = Conditioning({"label": torch.tensor([0, 1] * 4)})
    trials = Trials(oracle(), SPEC, SampleRequest(range(8), condition=labels))
    with pytest.raises(NotApplicableError, match="'label' differs between samples, but stored latents are of one"):
        DPMOT().search(trials, 3, Spending())
