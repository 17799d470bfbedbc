"""Bridges of pictures: from files to files, there and back, and what is refused."""

from __future__ import annotations

import pytest
import torch

from anydiff.cli.main import run
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import Pipeline, load, train
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset
from anydiff_images.bridge import ImageBridge

SMALL = [
    "network.options.options.channels=8",
    "network.options.options.multipliers=[1]",
    "training.steps=2",
    "training.batch_size=4",
    "training.precision=32-true",
    "sampling.nfe=3",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bridge") / "run"
    train(load_recipe("images/fashion-bridge", SMALL), folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(folder):
    return load(folder)


@pytest.fixture(scope="module")
def sneakers(pipeline):
    data = build_dataset(pipeline.recipe, "test")
    return pipeline.domain.decode(data.start.batch(range(3))[0], data.batch(range(3))[1])


def test_both_ends_are_the_classes_that_are_named():
    made = ImageBridge()
    assert (len(made.data), len(made.start)) == (1000, 1000)
    states, condition = made.batch(range(4))
    assert states.shape == condition.sources["start"].shape == (4, 1, 28, 28)
    with pytest.raises(UnknownNameError, match=r"class of Fashion-MNIST \(or folder\) 'snaeker'"):
        ImageBridge(start="snaeker")


def test_pictures_travel_and_the_ode_is_the_same_for_every_seed(pipeline, sneakers):
    first = pipeline.sample(start=sneakers, seed=1)
    assert len(first) == 3
    assert first[0].size == (28, 28)
    again = pipeline.sample(start=sneakers, seed=2)
    assert [image.tobytes() for image in first] == [image.tobytes() for image in again]
    noisy = [pipeline.sample(start=sneakers, seed=seed, epsilon=0.5)[0].tobytes() for seed in (1, 2)]
    assert noisy[0] != noisy[1]


def test_files_travel_on_the_command_line(folder, pipeline, sneakers, tmp_path, monkeypatch, capfd):
    """The commands of docs/paths.md, and what is refused there."""
    monkeypatch.chdir(tmp_path)
    pipeline.domain.write(sneakers, "sneakers")
    forth = ["sample", str(folder), "--start", "sneakers", "--option", "epsilon=0.5", "--out", "boots"]
    back = ["sample", str(folder), "--start", "boots", "--reverse", "--out", "back"]
    assert [run(forth), run(back)] == [0, 0]
    assert len(pipeline.domain.read("boots")) == len(pipeline.domain.read("back")) == 3
    capfd.readouterr()
    for words, said in (
        (["--start", "sneakers", "--count", "9"], "--count is 9, but 'sneakers' holds 3 objects"),
        (["--reverse"], "--reverse needs --start"),
        (["--start", "sneakers", "--members", "2"], "--members 2 does not go with --start"),
        ([], "has no prior"),
    ):
        assert run(["sample", str(folder), *words, "--out", "other"]) == 2
        assert said in capfd.readouterr().err
        assert not (tmp_path / "other").exists()


def test_there_and_back_is_the_start(pipeline, sneakers):
    states = pipeline.domain.encode(sneakers)
    forth = pipeline.sample_set(start=states, nfe=400, solver="interpolant", method="rk4").states
    back = pipeline.sample_set(start=forth, nfe=400, solver="interpolant", method="rk4", reverse=True).states
    assert float((back - states).abs().max()) < 1e-3


def test_it_is_evaluated_from_held_out_starts(pipeline):
    samples = pipeline.like(pipeline.reference(5), 5)
    assert samples.states.shape == (5, 1, 28, 28)
    assert torch.isfinite(samples.states).all()


def test_what_a_bridge_cannot_do_is_refused(pipeline, sneakers):
    plain = Pipeline.untrained(load_recipe("images/fashion", []))
    for call, what in (
        (lambda: pipeline.sample(2), "has no prior: sampling begins at start"),
        (lambda: pipeline.sample(5, start=sneakers), "start has .* where 5 rows"),
        (lambda: pipeline.sample(), "count is missing"),
        (lambda: plain.sample(start=sneakers), "start holds objects, but 'images/fashion' begins at noise"),
        (lambda: plain.sample(3, reverse=True), "reverse travels a bridge"),
        (lambda: pipeline.sample(start=sneakers, eta=1.0), "eta is 1.0, but belongs to a solver"),
        (lambda: pipeline.sample(start=sneakers, solver="ddim"), "needs a path of data and noise with a log-SNR"),
    ):
        with pytest.raises(AnydiffError, match=what):
            call()
