"""Guided optimisation: closed-form rest points, the same samples in any batch, latents, files, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from found import EXAMPLES, found

from anydiff.cli.main import run
from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import VPCosine
from anydiff.pipeline import Ascent, Pipeline, optimise_states
from anydiff.recipes import load_recipe
from anydiff.samplers import sample

ROOT = torch.tensor([[0.9, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.2, 0.2, 0.6]], dtype=torch.float64)
COVARIANCE, MEAN = ROOT @ ROOT.T, torch.tensor([0.4, -0.2, 0.1], dtype=torch.float64)
DIRECTION = torch.tensor([0.5, 0.5, 0.7], dtype=torch.float64)
FAST = {"nfe": 3, "condition": {"label": [0, 1] * 4}}


def height(values):
    return values[:, 1] - 0.1 * values[:, 0].square()


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    """The example's pipeline as it is initialised: a nonlinear map, which is all that these tests need."""
    with found("two_moons", EXAMPLES, tmp_path_factory):
        yield Pipeline.untrained(load_recipe("two_moons/small"))


def gaussian_draw(count, seed, nfe=60):
    path = VPCosine()
    oracle = GaussianOracle(path, MEAN, COVARIANCE)

    def draw(number, guidance):
        options = {"nfe": nfe, "solver": "sde-dpm-solver++-2m", "dtype": torch.float64, "batch_size": count}
        return sample(oracle, (3,), count, seed=1000 * seed + number, guidance=guidance, **options)

    return draw


def test_a_linear_reward_comes_to_rest_where_the_closed_form_says():
    """z <- μ + S g (y - g·μ)/(s² + gᵀ S g), y = g·z + δ: at rest g·z = g·μ + δ gᵀ S g / s², the mean along S g."""
    count, gain, noise = 200, 0.6, 0.6
    ascent = Ascent(8, gain, noise_std=noise)
    states, rewards = optimise_states(gaussian_draw(count, 3, 40), lambda v: v @ DIRECTION, ascent, range(count))
    along = COVARIANCE @ DIRECTION
    variance = float(DIRECTION @ along)
    rest = MEAN + along * gain / noise**2
    # What is left after eight rounds: the distance shrinks by the same factor in each.
    left = (variance / (noise**2 + variance)) ** 8
    rest = rest - left * (rest - MEAN)
    error = (states.mean(0) - rest).norm() / (torch.trace(states.T.cov()) / count).sqrt()
    assert float(error) < 3, error
    assert float((rest - MEAN).norm() / (torch.trace(states.T.cov()) / count).sqrt()) > 10, "far from where it began"
    assert rewards.shape == (9, count)
    assert float(rewards[0].mean()) == pytest.approx(float(DIRECTION @ MEAN), abs=0.15)


def test_a_target_is_reached_and_kept():
    ascent = Ascent(3, target=1.5, noise_std=0.05)
    _, rewards = optimise_states(gaussian_draw(64, 5, 40), lambda v: v @ DIRECTION, ascent, range(64))
    assert float((rewards[-1] - 1.5).abs().max()) < 0.25
    _, rewards = optimise_states(gaussian_draw(64, 5, 40), lambda v: v @ DIRECTION, Ascent(3, target=1.5), range(64))
    assert float(rewards[-1].mean()) == pytest.approx(1.5, abs=0.1)


def test_a_target_may_be_a_function_of_states_and_gradients():
    seen = []

    def target(states, gradient):
        seen.append((states.shape, gradient.shape))
        return 0.0 * states[:, 0] + 0.7

    ascent = Ascent(1, target=target, noise_std=0.01)
    _, rewards = optimise_states(gaussian_draw(8, 1, 20), lambda v: v @ DIRECTION, ascent, range(8))
    assert float((rewards[-1] - 0.7).abs().max()) < 0.1
    assert seen[0] == ((8, 3), (8, 3))
    wrong = Ascent(1, target=lambda states, gradient: torch.ones(3), noise_std=0.1)
    with pytest.raises(AnydiffError, match="one finite number per row"):
        optimise_states(gaussian_draw(8, 1, 4), lambda v: v @ DIRECTION, wrong, range(8))


def test_round_0_are_the_samples_as_they_come_and_rewards_rise(moons):
    told = []
    found = moons.optimise(height, 8, rounds=3, gain=0.5, report=told.append, seed=4, **FAST)
    plain = moons.sample_set(8, seed=4, **FAST)
    torch.testing.assert_close(found.rewards[0], height(plain.states))
    torch.testing.assert_close(found.rewards[-1], height(found.samples.states))
    assert [(each.number, each.of) for each in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert float(found.rewards[-1].mean()) > float(found.rewards[0].mean()) + 0.1
    assert isinstance(found.objects[0], np.ndarray)
    assert torch.equal(found.samples.condition.given["label"], torch.tensor([0, 1] * 4))


@pytest.mark.parametrize("by", ["look-ahead", "naive"])
@pytest.mark.parametrize("solver", ["dpm-solver++-2m", "ddpm"])
def test_a_sample_is_the_same_in_any_batch_and_any_set(moons, by, solver):
    options = {"rounds": 2, "gain": 0.5, "by": by, "solver": solver, "seed": 2}
    whole = moons.optimise(height, 8, **options, **FAST)
    parts = moons.optimise(height, 8, batch_size=3, **options, **FAST)
    torch.testing.assert_close(parts.samples.states, whole.samples.states, rtol=1e-4, atol=1e-5)
    some = moons.optimise(height, [5, 2], **options, **{**FAST, "condition": {"label": [1, 0]}})
    torch.testing.assert_close(some.samples.states, whole.samples.states[[5, 2]], rtol=1e-4, atol=1e-5)
    cases = moons.optimise(height, 8, cases=2, **options, **{**FAST, "condition": {"label": [0, 1]}})
    torch.testing.assert_close(cases.samples.states, whole.samples.states, rtol=1e-4, atol=1e-5)
    other = moons.optimise(height, 8, **{**options, "seed": 3}, **FAST)
    assert (other.samples.states - whole.samples.states).abs().max() > 0.01


def test_guidance_and_known_entries_go_with_it(moons):
    known, mask = torch.tensor([0.3, 0.0]), torch.tensor([True, False])
    found = moons.optimise(height, 8, rounds=1, gain=0.5, guidance=2.0, known=known, known_mask=mask, **FAST)
    assert torch.equal(found.samples.states[:, 0], torch.full((8,), 0.3))


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (lambda v: v.sum(), r"gives torch.float32 \[\] for values of shape \[8, 2\].*one number per row"),
        (lambda v: v[:, :1], r"gives torch.float32 \[8, 1\]"),
        (lambda v: 1.0, "gives float for values"),
        (lambda v: v[:, 0] > 0, r"gives torch.bool \[8\]"),
        (lambda v: v[:, 0].detach(), "does not depend on its values by differentiable torch operations"),
        (lambda v: torch.from_numpy(v.detach().numpy()[:, 0]), "does not depend on its values by differentiable"),
        (lambda v: torch.zeros(8, requires_grad=True), "does not depend on its values; compute it from them"),
        (lambda v: (v[:, 0] - 100).log(), "'<lambda>' is nan in row 0, and not finite in 8 of 8 rows"),
        (lambda v: 1 / (0 * v[:, 0]), "not finite in 8 of 8 rows"),
        (lambda v: (0 * v[:, 0]).sqrt(), "gradient of the reward '<lambda>' is not finite"),
        (lambda v: v[:, 0] - v.mean(), "of one row depends on other rows"),
        (lambda v: v[:, 7], r"fails on values of shape \[8, 2\] \(IndexError"),
        ("brightness", "reward is 'brightness', but must be a function"),
    ],
)
def test_what_is_no_reward(moons, reward, says):
    with pytest.raises(AnydiffError, match=says):
        moons.optimise(reward, 8, rounds=1, gain=0.5, **FAST)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "neither gain nor target is given"),
        ({"gain": 1.0, "target": 2.0}, "both gain and target are given"),
        ({"gain": 0.0}, "gain is 0, but must be above 0; for less of a reward negate it"),
        ({"gain": math.nan}, "gain is nan, but must be a finite number"),
        ({"gain": "much"}, "gain is 'much', but must be a finite number"),
        ({"target": math.inf}, "target is inf"),
        ({"gain": 1.0, "noise_std": 0.0}, "noise_std is 0, but must be above 0"),
        ({"target": lambda states, gradient: states[:, 0]}, "noise_std is missing"),
        ({"gain": 1.0, "rounds": 0}, "rounds is 0"),
        ({"gain": 1.0, "by": "lookahead"}, "did you mean 'look-ahead'"),
        ({"gain": 1.0, "variance": "exakt"}, "did you mean 'exact'"),
    ],
)
def test_what_cannot_be_asked_for(options, says):
    with pytest.raises(AnydiffError, match=says):
        Ascent(**{"rounds": 1, **options})


def test_a_sample_is_named_once(moons):
    with pytest.raises(AnydiffError, match="names sample 3 twice"):
        moons.optimise(height, [3, 1, 3], rounds=1, gain=1.0, nfe=2)
    with pytest.raises(UnknownNameError, match="solver"):
        moons.optimise(height, 2, rounds=1, gain=1.0, solver="dddim")


# The command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(moons, tmp_path, monkeypatch):
    """A folder with a model of points and a file of rewards."""
    moons.save(tmp_path / "moons.safetensors")
    (tmp_path / "rewards.py").write_text(
        "level = 3\n\n\ndef height(values):\n    return values[:, 1]\n\n\ndef total(values):\n    return values.sum()\n"
    )
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*more, reward="rewards.py:height"):
    return ["optimise", "moons.safetensors", "--reward", reward, "--count", "4", "--nfe", "3", "--rounds", "2", *more]


def test_the_command_writes_samples_and_rewards_and_tells_each_round(folder, capsys):
    assert run(command("--gain", "0.5", "--out", "high.csv", "--log", "rewards.json", "--seed", "1")) == 0
    said = capsys.readouterr().err
    assert "round 0 of 2: mean reward" in said
    assert "round 2 of 2: mean reward" in said
    assert "wrote 4 samples to 'high.csv' (mean reward from" in said
    points = np.loadtxt("high.csv", delimiter=",")
    log = json.loads(Path("rewards.json").read_text())
    assert (log["reward"], log["gain"], log["by"]) == ("rewards.py:height", 0.5, "look-ahead")
    np.testing.assert_allclose(log["rounds"][2]["rewards"], points[:, 1], rtol=1e-5)
    assert run(command("--gain", "0.5", "--out", "named.csv", "--seed", "1", reward="rewards:height")) == 0
    assert Path("named.csv").read_text() == Path("high.csv").read_text()


@pytest.mark.parametrize(
    ("more", "reward", "says"),
    [
        ((), "rewards.py:height", "neither gain nor target is given"),
        (("--gain", "1"), "rewards.py:hight", "did you mean 'height'"),
        (("--gain", "1"), "rewards.py", "write MODULE:FUNCTION"),
        (("--gain", "1"), "rewards.py:level", "is a int, but must be a function"),
        (("--gain", "1"), "absent.py:height", "there is no file 'absent.py'"),
        (("--gain", "1"), "absent_module:height", "No module named 'absent_module'"),
        (("--gain", "1"), "broken.py:height", "No module named 'nothing_of_this_name'"),
        (("--gain", "1"), "rewards.py:total", "must give one number per row"),
        (("--gain", "1", "--log", "rewards.txt"), "rewards.py:height", ".json"),
        (("--gain", "1", "--out", "moons.safetensors"), "rewards.py:height", "moons.safetensors"),
        (("--gain", "1", "--out", "there.csv"), "rewards.py:height", "'there.csv' exists"),
        (("--gain", "1", "--log", "there.json"), "rewards.py:height", "'there.json' exists"),
    ],
)
def test_the_command_refuses_in_a_sentence_and_writes_nothing(folder, capsys, more, reward, says):
    for name in ("there.csv", "there.json"):
        Path(name).write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert run(command(*more, reward=reward)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert says in said[-1]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
