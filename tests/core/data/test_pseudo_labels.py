"""Rewards as a condition: labels that stay, a domain that keeps its protocols, a recipe that trains and is asked."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from anydiff.cli.main import run
from anydiff.data import ArrayDataset, PseudoLabelled, rewarded
from anydiff.domains import Domain, HasUnits, NamesCases
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import load, train
from anydiff.plugins import forget, use_folder
from anydiff.recipes import load_recipe
from anydiff.states import StateSpec, VectorCondition, standard_normal

MOONS = Path(__file__).parents[3] / "examples" / "two_moons.py"
PLUGIN = """
from anydiff.data import PseudoLabelled, rewarded

register_domains = hookimpl(lambda register: register("highest", "points", "highest:points"))
register_datasets = hookimpl(lambda register: register("highest/moons", "moons", "highest:moons"))
register_recipes = hookimpl(lambda register: register("highest/small", "rewards of points", "highest:REWARDED"))


def points(reward_mean=0.0, reward_std=1.0):
    return rewarded(Points(), reward_mean, reward_std)


def moons(split="train", reward_mean=None, reward_std=None):
    return PseudoLabelled(Moons(split), lambda v: 5 * v[:, 1] + 7, 0.2, 0, reward_mean, reward_std)


REWARDED = {**SMALL, "dataset": "highest/moons", "metrics": []}
"""


@pytest.fixture
def _highest(monkeypatch, tmp_path):
    """A folder to work in, with a plugin: two moons, rewarded for their height."""
    text, _, _ = MOONS.read_text().replace("two_moons", "highest").partition("register_domains =")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "highest.py").write_text(text + PLUGIN)
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "highest")
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
    monkeypatch.chdir(tmp_path)
    use_folder(tmp_path / "plugins")
    forget()
    yield
    monkeypatch.undo()
    forget()


class Plane(Domain):
    """Points with units of their own and named cases."""

    name, spec = "plane", StateSpec.single((2,))

    def encode(self, objects):
        return torch.stack(objects)

    def decode(self, states, condition=None):
        return list(states)

    def read(self, path):
        raise NotImplementedError

    def write(self, objects, path):
        raise NotImplementedError

    def draw(self, objects, path, titles=None):
        raise NotImplementedError

    def in_units(self, states, condition):
        return 10 * states

    def labels(self, text):
        return sorted(text)


class Points(ArrayDataset):
    name, domain = "plane/points", Plane()

    def __init__(self, count=3000):
        super().__init__(torch.randn(count, 2, generator=torch.Generator().manual_seed(0)))


def total(values):
    return values.sum(1)


def test_labels_are_the_reward_with_noise_in_units_and_never_change():
    data = PseudoLabelled(Points(), total, 2.0, seed=5)
    states, condition = data.batch([7, 2999, 3])
    exact = 10 * states.sum(1).double()
    noise = torch.from_numpy(standard_normal(5, [7, 2999, 3], 0, "pseudo-label", ()))
    torch.testing.assert_close(data.labels[[7, 2999, 3]], exact + 2.0 * noise)
    mean, std = data.domain.reward_mean, data.domain.reward_std
    assert std == pytest.approx(math.sqrt(200 + 4), rel=0.05)
    torch.testing.assert_close(condition.given["reward"][:, 0].double() * std + mean, data.labels[[7, 2999, 3]])
    assert torch.equal(data.batch([3])[1].given["reward"], condition.given["reward"][2:])
    assert float((data.labels - 10 * Points()._states.sum(1)).std()) == pytest.approx(2.0, rel=0.05)
    assert data.hash == PseudoLabelled(Points(), total, 2.0, seed=5).hash
    assert data.hash != PseudoLabelled(Points(), total, 2.0, seed=6).hash
    assert data.statistics == {"reward_mean": mean, "reward_std": std}
    fixed = PseudoLabelled(Points(), total, 2.0, 5, 1.0, 4.0)
    assert fixed.domain.codec == {"reward_mean": 1.0, "reward_std": 4.0}


def test_a_rewarded_domain_keeps_what_it_was():
    plain, made = Plane(), rewarded(Plane(), 3.0, 2.0)
    assert isinstance(made, Plane)
    assert isinstance(made, HasUnits)
    assert isinstance(made, NamesCases)
    assert plain.conditions == {}
    assert made.conditions == {"reward": VectorCondition(1)}
    assert torch.equal(made.parse_condition({"reward": "7"}, 3)["reward"], torch.full((3, 1), 2.0))
    assert made.parse_condition({}, 3) == {}
    assert made.labels({"reward": "7"}) is None
    assert made.labels({"reward": "7", "place": "here"}) == ["place"]
    with pytest.raises(UnknownNameError, match="condition"):
        made.parse_condition({"rewards": "7"}, 3)
    for text in ("much", "nan", "inf"):
        with pytest.raises(AnydiffError, match=f"reward is '{text}', but must be a finite number"):
            made.parse_condition({"reward": text}, 3)
    with pytest.raises(AnydiffError, match="has a condition 'reward' already"):
        rewarded(made)
    for statistics in ((math.nan, 1.0), (0.0, 0.0), (0.0, math.inf)):
        with pytest.raises(AnydiffError, match="must be finite, the latter above 0"):
            rewarded(Plane(), *statistics)


@pytest.mark.parametrize(
    ("reward", "noise", "says"),
    [
        (total, 0.0, "noise_std is 0.0, but must be above 0"),
        (total, math.nan, "noise_std is nan"),
        (lambda v: v, 1.0, "must give one number per row"),
        (lambda v: v.sum(1) / 0, 1.0, "not finite in 1024 of 1024 rows"),
    ],
)
def test_what_is_refused(reward, noise, says):
    with pytest.raises(AnydiffError, match=says):
        _ = PseudoLabelled(Points(), reward, noise).domain


@pytest.mark.usefixtures("_highest")
def test_a_recipe_trains_and_is_asked_for_a_reward():
    changes = ["training.steps=200", "training.batch_size=128", "training.learning_rate=0.003"]
    train(load_recipe("highest/small", changes), "run")
    options = load("run").recipe.domain.options
    assert options["reward_mean"] == pytest.approx(7, abs=0.3)
    assert options["reward_std"] > 1
    command = ["sample", "run", "--count", "64", "--nfe", "8"]
    for asked in ("4", "10"):
        assert run([*command, "--condition", f"reward={asked}", "--out", f"{asked}.csv"]) == 0
    low, high = (float(torch.tensor(load("run").domain.read(f"{name}.csv"))[:, 1].mean()) for name in ("4", "10"))
    assert high > low + 0.3
    assert run([*command, "--condition", "reward=much", "--out", "no.csv"]) == 2
    assert not Path("no.csv").exists()
