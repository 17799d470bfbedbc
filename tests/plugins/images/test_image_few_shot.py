"""A few pictures in another style: which, how they are drawn, a folder in their place, and the adapted model."""

from __future__ import annotations

import pytest
import torch

from anydiff.cli.main import run
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import load, train
from anydiff.recipes import load_recipe
from anydiff.registry import registry
from anydiff_images.domain import Images
from anydiff_images.few_shot import FewShot, drawn
from anydiff_images.files import write_images


def test_ten_drawings_of_four_classes_without_labels_and_held_out_ones_of_all():
    ten, again, other = FewShot(), FewShot(), FewShot(seed=1)
    assert len(ten) == 10
    assert ten.hash == again.hash != other.hash
    assert len(FewShot("test")) == 2000
    states, condition = ten.batch(range(10))
    assert states.shape == (10, 1, 28, 28)
    assert states[:, 0, 0, 0].min() > 0.5, "they are dark on white"
    assert not condition.presence("label").any()
    every = FewShot(count=20, classes=[name.upper() for name in ten.classes])
    plain = registry().build("datasets", "images/fashion-mnist")
    for place in (0, 13):
        matches = (drawn(plain.pixels) == every.pixels[place]).flatten(1).all(1)
        assert set(plain.labels[matches].tolist()) == {place % 10}


def test_a_drawing_has_dark_edges_on_white():
    square = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    square[..., 2:6, 2:6] = 200
    made = drawn(square)[0, 0]
    assert made[0, 0] == 255
    assert made[3, 3] == 155  # within: half as bright, inverted
    assert (made[2, 2:6] == 0).all()
    assert (made[1, 2:6] == 55).all()  # the line is two pixels wide


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ["Trousers"]}, UnknownNameError, "Trousers"),
        ({"classes": []}, AnydiffError, "classes is empty"),
        ({"count": 0}, AnydiffError, "count is 0"),
        ({"count": 4001}, AnydiffError, "these classes have 4000 bundled pictures"),
        ({"path": "nowhere"}, AnydiffError, "does not exist"),
    ],
)
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        FewShot(**options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five pictures of another size in colour."""
    folder = tmp_path_factory.mktemp("style")
    domain = Images(3, 40, 32)
    states = torch.rand(5, 3, 40, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_images(domain.decode(states), folder)
    return folder


def test_any_folder_will_do(folder):
    domain = Images(1, 28, 28, classes=["a", "b"])
    data = FewShot(path=folder, domain=domain)
    assert (len(data), data.domain.classes) == (5, ["a", "b"])
    assert data.batch([0, 4])[0].shape == (2, 1, 28, 28)
    with pytest.raises(AnydiffError, match="none is held out"):
        FewShot("test", path=folder, domain=domain)
    (folder / "empty").mkdir(exist_ok=True)
    with pytest.raises(AnydiffError, match="holds no pictures"):
        FewShot(path=folder / "empty", domain=domain)


SHORT = ["training.steps=2", "training.checkpoint_every=2", "training.log_every=1"]


def test_the_bundled_model_is_adapted_to_a_folder_and_drawn_without_a_class(folder, tmp_path):
    changes = [*SHORT, "training.batch_size=4", f"dataset.options.path={folder}"]
    made = train(load_recipe("images/fashion-few-shot", changes), tmp_path / "run")
    base = load("images/fashion")
    assert made.recipe.companions["source"].weights_hash == made.recipe.start.weights_hash == base.weights_hash
    assert made.weights_hash != base.weights_hash
    logged = (tmp_path / "run" / "log.jsonl").read_text()
    assert all(f"loss/network/{name}" in logged for name in ("denoising", "pictures", "details", "wavelet-details"))
    assert len(made.sample(2, nfe=1)) == 2


def test_fewer_pictures_than_the_pairs_need_are_refused(folder, tmp_path, capsys):
    words = ["train", "images/fashion-few-shot", "--out", str(tmp_path / "run")]
    assert run([*words, "--set", "dataset.options.count=2"]) == 2
    assert "has 2 examples, but the loss is one of at least 3" in " ".join(capsys.readouterr().err.split())
    assert run([*words, "--set", "training.batch_size=2"]) == 2
    assert "training.batch_size is 2" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
