"""``anydiff trajectories``: data, rollouts, pictures and comparisons from the command line, on tiny models."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from PIL import Image

from anydiff.cli.main import run
from anydiff.pipeline import Pipeline, load, train
from anydiff.recipes import load_recipe
from anydiff.states import Conditioning
from anydiff_trajectories import baselines
from anydiff_trajectories.compare import compare_agents, rows_of
from anydiff_trajectories.files import read_episodes
from anydiff_trajectories.pictures import plan_frames
from anydiff_trajectories.rollout import roll_out

SMALL = ["network.options.channels=8", "training.steps=1", "training.batch_size=8", "training.warmup_steps=0"]


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    """A run folder of the maze recipe after one step."""
    out = tmp_path_factory.mktemp("runs") / "maze"
    options = ["dataset.options.episodes=20", "metrics=[]"]
    train(load_recipe("trajectories/maze", [*SMALL, *options]), out)
    return out


@pytest.fixture
def quick_cloning(monkeypatch):
    """Behaviour cloning of a few steps."""
    brief = functools.partial(baselines.behaviour_cloning, steps=10)
    monkeypatch.setattr(baselines, "behaviour_cloning", brief)


def test_data_are_made_and_nothing_is_overwritten(tmp_path, capsys):
    out = tmp_path / "maze.hdf5"
    assert run(["trajectories", "make", "maze", "--out", str(out), "--episodes", "12"]) == 0
    episodes = read_episodes(out)
    assert len(episodes) == 12
    before = out.read_bytes()
    assert run(["trajectories", "make", "medium", "--out", str(out)]) != 0
    assert "exists; choose another --out" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert run(["trajectories", "make", "good", "--out", str(tmp_path / "p.hdf5")]) != 0
    assert "quality" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["rollout", "reverse", "compare", "recipe"])
def test_what_stands_at_out_is_replaced_only_on_request(command, tmp_path, capsys):
    out = tmp_path / "out.gif"
    out.write_text("mine")
    arguments = ["trajectories", command, str(tmp_path / "absent"), "--out", str(out)]
    assert run(arguments) != 0
    assert "exists; choose another --out or pass --overwrite" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) != 0
    told = capsys.readouterr().err
    assert "absent" in told, "it goes on to the source, which is not there"
    assert "choose another --out" not in told
    assert out.read_text() == "mine"


def test_a_rollout_is_an_animation(maze, tmp_path):
    out = tmp_path / "roll.gif"
    assert run(["trajectories", "rollout", str(maze), "--out", str(out), "--nfe", "2"]) == 0
    with Image.open(out) as picture:
        assert picture.n_frames > 1
        assert picture.size == (7 * 24, 7 * 24)
    assert run(["trajectories", "rollout", str(maze), "--out", str(tmp_path / "roll.mp4"), "--nfe", "2"]) != 0
    assert not (tmp_path / "roll.mp4").exists()


def test_the_reverse_process_is_drawn_from_noise_to_plan(maze, tmp_path, capsys):
    out = tmp_path / "reverse.png"
    assert run(["trajectories", "reverse", str(maze), "--out", str(out), "--nfe", "5", "--goal", "1 5"]) == 0
    assert Image.open(out).mode in ("RGB", "RGBA")
    assert run(["trajectories", "reverse", str(maze), "--out", str(out), "--goal", "1", "--overwrite"]) != 0
    assert "goal is '1', but must be 2 numbers" in capsys.readouterr().err


def test_frames_are_the_predictions_in_order_with_the_ends_in_place():
    pipeline = Pipeline.untrained(load_recipe("trajectories/maze", ["network.options.channels=8"]))
    condition = Conditioning(pipeline.domain.parse_condition({"start": "1 1", "goal": "5 1"}, 1))
    frames = plan_frames(pipeline, condition, nfe=10, frames=4)
    assert len(frames) == 4
    assert [time for time, _ in frames] == sorted((time for time, _ in frames), reverse=True)
    for _, places in frames:
        assert places.shape == (48, 4)
        np.testing.assert_allclose(places[0, :2], [1, 1], atol=1e-5)
        np.testing.assert_allclose(places[-1, :2], [5, 1], atol=1e-5)
    assert len(plan_frames(pipeline, condition, nfe=3)) == 3


def test_a_comparison_holds_every_agent_and_is_its_rollouts(maze, quick_cloning):
    pipeline = load(maze)
    told = []
    found = compare_agents(pipeline, 4, [0, 1], lambda *counts: told.append(counts), nfe=2)
    assert set(found.agents) == {
        "trajectories/maze", "random actions", "behaviour cloning", "behaviour cloning, hindsight", "expert",
        "the data themselves",
    }  # fmt: skip
    assert told[-1] == (40, 40)
    expert = found.agents["expert"]
    assert expert.success[""] == 1.0
    assert set(expert.success) <= {"", "corridor", "straight"}
    assert len(expert.by_seed) == 2
    rows = rows_of(found)
    assert [float(row[1]) for row in rows] == sorted((float(row[1]) for row in rows), reverse=True)
    from anydiff_trajectories.policy import DiffusionPolicy

    alone = roll_out(
        DiffusionPolicy(pipeline, seed=1, nfe=2), "anydiff/Maze-v0", 4, seed=1,
        options=pipeline.domain.environment_options,
    )  # fmt: skip
    assert found.label == "normalised return"
    assert found.agents["trajectories/maze"].by_seed[1] == pytest.approx(float(100 * alone.returns.mean() / 64.7))


def test_comparisons_are_drawn(maze, tmp_path, capsys, quick_cloning):
    out = tmp_path / "returns.png"
    command = ["trajectories", "compare", str(maze), "--out", str(out), "--count", "2", "--seeds", "1", "--nfe", "1"]
    assert run(command) == 0
    assert Image.open(out).mode in ("RGB", "RGBA")
    assert "behaviour cloning, hindsight" in capsys.readouterr().out
    pipeline = Pipeline.untrained(load_recipe("trajectories/pendulum-experience", ["network.options.channels=8"]))
    with pytest.raises(Exception, match="knows no start"):
        compare_agents(pipeline, 2, [0])


def test_an_environment_that_cannot_be_drawn_says_why(monkeypatch):
    import gymnasium

    from anydiff.errors import AnydiffError
    from anydiff_trajectories.environments import frame_of, make

    environment = make("Pendulum-v1", render_mode="rgb_array")

    def fails():
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed, run `pip install pygame`")

    monkeypatch.setattr(environment, "render", fails)
    with pytest.raises(AnydiffError, match="'Pendulum-v1' cannot be drawn: pygame is not installed, run"):
        frame_of(environment)
    monkeypatch.setattr(environment, "render", lambda: None)
    with pytest.raises(AnydiffError, match="draws no frames"):
        frame_of(environment)
