"""anydiff.wrap of any module, the path of rungs, and paths under foreign conventions."""

from __future__ import annotations

import math

import pytest
import torch

import anydiff
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import Flow, Ladder, ShiftedFlow, foreign, time_grid
from anydiff.states import ClassCondition, Conditioning


class Velocity(torch.nn.Module):
    """The exact velocity from noise to data of N(m, 1) data, m by the label."""

    def forward(self, x, t, label=None):
        mean = 0.0 if label is None else label.float().reshape(-1, 1)
        t = t.reshape(-1, 1)
        data = mean + t / (t**2 + (1 - t) ** 2) * (x - t * mean)
        return (data - x) / (1 - t).clamp_min(1e-6)


def test_a_velocity_from_noise_to_data_is_sampled_by_any_solver():
    denoiser = anydiff.wrap(Velocity(), path="flow", predicts="flow", time="from-noise", sign=-1.0, shape=(3,))
    for solver in ("by-budget", "dpm-solver++-2m", "heun"):
        states = anydiff.sample(denoiser, (3,), 4000, nfe=40, solver=solver)
        assert abs(float(states.mean())) < 0.05
        assert abs(float(states.std()) - 1) < 0.05


def test_an_absent_condition_is_the_null_or_refused():
    options = {"path": "flow", "predicts": "flow", "time": "from-noise", "sign": -1.0}
    kinds = {"label": ClassCondition(3)}
    denoiser = anydiff.wrap(Velocity(), **options, conditions=kinds, nulls={"label": 0})
    x, label = torch.zeros(2, 3), torch.tensor([2, 2])
    there = Conditioning({"label": label})
    hidden = there.hidden(["label"], torch.tensor([False, True]))
    found = denoiser(x, 0.5, hidden)
    assert torch.equal(found[0], denoiser(x, 0.5, there)[0])
    assert torch.equal(found[1], denoiser(x, 0.5)[1])
    strict = anydiff.wrap(Velocity(), **options, conditions=kinds)
    with pytest.raises(AnydiffError, match="has no value for none"):
        strict(x, 0.5, hidden)


def test_refusals_are_sentences():
    with pytest.raises(AnydiffError, match=r"no adapter knows .*Velocity, and path and predicts are not both given"):
        anydiff.wrap(Velocity())
    with pytest.raises(UnknownNameError, match="did you mean 'predicts'"):
        anydiff.wrap(Velocity(), path="flow", predict="flow")
    with pytest.raises(AnydiffError, match=r"no torch.nn.Module"):
        anydiff.wrap(lambda x, t: x, path="flow", predicts="flow")
    with pytest.raises(UnknownNameError, match="adapter"):
        anydiff.wrap(Velocity(), like="no-such")
    whole = anydiff.wrap(Velocity(), path="ladder", predicts="noise", whole_times=True)
    with pytest.raises(AnydiffError, match=r"takes whole times alone, but is asked at 7\.5"):
        whole(torch.zeros(1, 3), 7.5)
    wrong = anydiff.wrap(torch.nn.Bilinear(3, 1, 2), path="flow", predicts="flow", call=lambda n, x, t, g: x[:, :2])
    with pytest.raises(AnydiffError, match=r"answers \(1, 2\) to states of \(1, 3\)"):
        wrong(torch.zeros(1, 3), 0.5)


@pytest.mark.parametrize("schedule", ["linear", "scaled-linear", "cosine", "sigmoid"])
def test_rungs_are_the_table_and_times_between_them_are_of_their_level(schedule):
    path = Ladder(schedule, steps=100)
    betas = torch.tensor(path._rates(), dtype=torch.float64)
    signal = torch.cumprod(1 - betas, 0)
    rungs = torch.arange(100, dtype=torch.float64)
    torch.testing.assert_close(path.alpha(rungs) ** 2, signal, rtol=1e-12, atol=0)
    levels = torch.linspace(path.log_snr(98.9), path.log_snr(0.1), 500, dtype=torch.float64)
    torch.testing.assert_close(path.log_snr(path.time(levels)), levels, rtol=1e-12, atol=1e-12)
    middle = (path.log_snr(40.0) + path.log_snr(41.0)) / 2
    assert path.time(middle) == pytest.approx(40.5, abs=1e-9)
    assert float(path.told(torch.tensor([path.time(middle)]))) == pytest.approx(40.5, abs=1e-9)


def test_given_betas_come_first_and_have_a_short_text():
    betas = tuple(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist())
    path = Ladder(betas=betas)
    assert path.log_snr(500.25) == pytest.approx(Ladder().log_snr(500.25), abs=1e-12)
    assert len(repr(path)) < 120
    assert repr(path) != repr(Ladder(betas=(*betas[:-1], 0.03)))
    for wrong, words in (((0.1,), "at least 2"), ((0.1, 1.0), "beta 1 of the ladder is 1"), ((-0.1, 0.2), "beta 0")):
        with pytest.raises(AnydiffError, match=words):
            Ladder(betas=wrong)
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        Ladder("cosin")


def test_a_shift_moves_the_grid_and_nothing_else():
    plain, shifted = Flow(), ShiftedFlow(stretch=3.0)
    assert shifted.alpha(0.3) == plain.alpha(0.3)
    nodes = time_grid(shifted, 4)
    evenly = [1.0, 0.75025, 0.5005, 0.25075]
    assert nodes[:-1] == pytest.approx([3 * t / (1 + 2 * t) for t in evenly])
    assert nodes[-1] == plain.t_end
    assert time_grid(ShiftedFlow(stretch=1.0), 4) == time_grid(plain, 4)
    assert time_grid(foreign(shifted, "sigma", 1000.0), 4) == nodes


def test_times_are_told_in_the_words_of_the_library():
    t = torch.tensor([0.25], dtype=torch.float64)
    told = {name: float(foreign("flow", name, 2.0).told(t)) for name in ("time", "from-noise", "sigma", "noise-level")}
    assert told == pytest.approx({"time": 0.5, "from-noise": 1.5, "sigma": 0.5, "noise-level": 2 / 3})
    assert float(foreign("flow", "log-noise-level").told(t)) == pytest.approx(math.log(1 / 3))
    with pytest.raises(UnknownNameError, match="time that a network is told"):
        foreign("flow", "seconds")
    with pytest.raises(AnydiffError, match="needs one of data and noise alone"):
        foreign("mean-reverting")
