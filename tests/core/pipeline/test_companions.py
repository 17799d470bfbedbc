"""What a model needs is part of its identity: recorded with its weights, refused where it is another, moved along."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from found import WAVES, found

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.networks import Autoencoder
from anydiff.pipeline import load, train
from anydiff.pipeline.companions import companions_of
from anydiff.pipeline.latent import Latent, LatentDataset
from anydiff.pipeline.stream import StreamRequest, stream
from anydiff.plugins import forget, use_folder
from anydiff.recipes import load_recipe
from anydiff.registry import registry
from anydiff.training import load_weights
from anydiff.training import weights as weights_module
from anydiff.training.weights import BEFORE, FORMAT, load_metadata, requirements, save_weights
from anydiff_benchmarks.engine.worker import _source

FILE = "model.safetensors"
SHIFT = """\
from anydiff.hookspecs import hookimpl


@hookimpl
def transform_batch(batch):
    states, condition = batch
    return states + {by}, condition


@hookimpl
def samples_ready(states):
    return states + {by}
"""


@pytest.fixture(autouse=True)
def _waves(tmp_path_factory):
    with found("waves", WAVES, tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with an autoencoder ``codes`` and a model ``model`` in its space, trained from within the folder."""
    with found("waves", WAVES, tmp_path_factory) as patch:
        folder = tmp_path_factory.mktemp("trained")
        patch.chdir(folder)
        train(load_recipe("waves/codes", ["training.steps=5"]), "codes")
        train(load_recipe("waves/diffusion", ["latent=codes", "training.steps=5"]), "model")
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of both, elsewhere."""
    return Path(shutil.copytree(trained, tmp_path / "elsewhere"))


def rewrite(folder, change=None, **metadata):
    """Write a run's weights again, with ``change`` applied to its tensors and other metadata (None removes one)."""
    tensors, about = load_weights(folder / FILE)
    merged = {**{name: text for name, text in about.items() if name != "format"}, **metadata}
    tensors = {name: tensor if change is None else change(tensor) for name, tensor in tensors.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights_module, "FORMAT", merged.pop("format", FORMAT))
        save_weights(folder / FILE, tensors, {k: v for k, v in merged.items() if v is not None}, overwrite=True)


def other_weights(tensor):
    return tensor + 0.1 if tensor.is_floating_point() else tensor


def test_what_is_recorded(runs):
    codes = load(runs / "codes")
    about = load_metadata(runs / "model" / FILE)
    assert about["format"] == FORMAT
    assert json.loads(about["requires"]) == {
        "latent": {"source": "../codes", "recipe_hash": codes.recipe.hash, "weights_hash": codes.weights_hash}
    }
    assert "requires" not in load_metadata(runs / "codes" / FILE)
    assert codes.weights_hash in (runs / "model" / "card.md").read_text()
    assert load(runs / "model").companions["latent"].weights_hash == codes.weights_hash


def other_autoencoder_is_refused(runs):
    rewrite(runs / "codes", other_weights)
    found = load(runs / "codes").weights_hash[:12]
    with pytest.raises(AnydiffError, match=rf"needs as latent the model with weights .*has weights {found}.*put back"):
        load(runs / "model")


def test_other_weights_at_the_same_place_are_refused(runs):
    other_autoencoder_is_refused(runs)


def test_a_folder_that_hides_a_recipe_is_named(runs, monkeypatch):
    monkeypatch.chdir(runs)
    (runs / "waves").mkdir()
    hides = r"the folder 'waves/codes' here hides the recipe of that name: rename it, or run in another folder\."
    rewrite(runs / "codes", other_weights)
    shutil.move(runs / "codes", "waves/codes")
    recipe = load_recipe("waves/diffusion", ["latent=waves/codes"])
    with pytest.raises(AnydiffError, match=rf"needs as latent .*put back the latent .*; {hides}"):
        companions_of(recipe, load, load_metadata(runs / "model" / FILE), runs / "model" / FILE)
    (runs / "waves" / "codes" / FILE).unlink()
    with pytest.raises(AnydiffError, match=rf"is a folder without model.safetensors; .*; {hides}"):
        load("waves/codes")


def test_a_record_that_is_not_compared_is_caught(runs, monkeypatch):
    monkeypatch.chdir(runs)
    monkeypatch.setattr("anydiff.pipeline.companions.requirements", lambda metadata, where: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        other_autoencoder_is_refused(runs)


def test_another_recipe_behind_the_same_weights_is_refused(runs):
    recipe = load(runs / "codes").recipe.with_changes(["sigma_data=2.0"])
    rewrite(runs / "codes", recipe=recipe.canonical(), recipe_hash=recipe.hash)
    with pytest.raises(AnydiffError, match="needs as latent the model with"):
        load(runs / "model")


def test_both_folders_move_together(trained, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there is no folder "codes"
    samples = load(trained / "model").sample_set(2, seed=1).states
    assert torch.equal(load(runs / "model").sample_set(2, seed=1).states, samples)
    shutil.rmtree(runs / "codes")
    with pytest.raises(AnydiffError, match=r"needs as latent the model 'codes', which cannot be loaded"):
        load(runs / "model")


def test_beside_the_weights_comes_first_and_the_hash_decides(trained, runs, monkeypatch):
    monkeypatch.chdir(trained)
    rewrite(runs / "codes", other_weights)  # beside the weights, and another; from here the name leads to the right one
    assert Path(load(runs / "model").companions["latent"].origin) == trained / "codes"
    shutil.rmtree(runs / "codes")
    shutil.copytree(trained / "codes", runs / "codes")
    assert Path(load(runs / "model").companions["latent"].origin) == runs / "codes"


def test_an_exported_file_finds_it_too(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(runs / "model")
    pipeline = load("../model")
    (tmp_path / "out").mkdir()
    pipeline.save(tmp_path / "out" / "model.safetensors")
    again = load(tmp_path / "out" / "model.safetensors")
    assert again.weights_hash == pipeline.weights_hash
    source = json.loads(load_metadata(tmp_path / "out" / "model.safetensors")["requires"])["latent"]["source"]
    assert (tmp_path / "out" / source).resolve() == (runs / "codes").resolve()


def test_hashes_cover_what_is_needed(runs, monkeypatch):
    """Weights of an earlier format load with whatever is there: then nothing but the hash tells them apart."""
    monkeypatch.chdir(runs)
    own = load(runs / "model")
    assert own.weights_hash != weights_module.weights_hash(own.denoiser.network.state_dict())
    plain = load(runs / "codes")
    assert plain.weights_hash == weights_module.weights_hash(plain.denoiser.network.state_dict()), "as it ever was"
    rewrite(runs / "model", requires=None, format=BEFORE)
    assert load(runs / "model").weights_hash == own.weights_hash
    rewrite(runs / "codes", other_weights)
    other = load(runs / "model")
    assert other.weights_hash != own.weights_hash
    assert not torch.equal(other.sample_set(1, seed=0).states, own.sample_set(1, seed=0).states)


def test_weights_that_do_not_say_what_they_need_are_refused(runs):
    rewrite(runs / "model", requires=None)
    with pytest.raises(FileFormatError, match="do not say which model it needs as latent"):
        load(runs / "model")
    numbers = '{"latent": {"source": 1, "recipe_hash": 2, "weights_hash": 3}}'
    for text in ("{", "[1]", '{"latent": {"source": "x"}}', numbers):
        with pytest.raises(FileFormatError, match="'requires'"):
            requirements({"requires": text, "format": FORMAT}, "x")


def test_a_model_that_needs_itself_is_refused(runs):
    recipe = load(runs / "model").recipe.with_changes(["latent=../model"])
    rewrite(runs / "model", requires=None, recipe=recipe.canonical(), format=BEFORE)
    with pytest.raises(AnydiffError, match="needs itself"):
        load(runs / "model")


def test_resuming_under_another_autoencoder_is_refused(runs, monkeypatch):
    monkeypatch.chdir(runs)
    recipe = load_recipe("waves/diffusion", ["latent=codes", "training.steps=5"])
    assert train(recipe, "model", resume=True).weights_hash == load("model").weights_hash
    before = {path.name: path.read_bytes() for path in (runs / "model").iterdir() if path.is_file()}
    rewrite(runs / "codes", other_weights)
    with pytest.raises(AnydiffError, match="needs as latent the model with weights"):
        train(recipe, "model", resume=True)
    assert {path.name: path.read_bytes() for path in (runs / "model").iterdir() if path.is_file()} == before


def test_the_rows_of_a_benchmark_know_it(runs, monkeypatch):
    """What the recipe of the autoencoder names counts as what the model's own recipe names does."""
    pipeline = load(runs / "model")
    inner = pipeline.companions["latent"]
    inner.recipe = inner.recipe.with_changes(["objective=third/objective"])
    asked: list[str] = []
    monkeypatch.setattr("anydiff_benchmarks.engine.worker._entries", lambda names: asked.extend(names) or [])
    entry = registry().get("recipes", "waves/codes")
    monkeypatch.setattr("anydiff_benchmarks.engine.worker.registry", lambda: SimpleNamespace(get=lambda *names: entry))
    task = SimpleNamespace(id="waves/x@1", baselines={}, evaluator=None, metrics=(), measured=None)
    _source(SimpleNamespace(task=task, recipe=pipeline.recipe, pipeline=pipeline))
    assert "third/objective" in asked


# The cache of encoded latents -----------------------------------------------------------------------------------------


def test_the_cache_of_latents_is_bounded():
    data = registry().build("datasets", "waves/data")
    latent = Latent(data.domain, Autoencoder(data.spec, latent_channels=2, channels=16))
    free, tight = LatentDataset(data, latent), LatentDataset(data, latent, kept_bytes=10 * 4 * latent.spec.size + 3)
    order = [int(index) for index in torch.randperm(40, generator=torch.Generator().manual_seed(0))] * 2
    for begin in range(0, len(order), 16):
        part = order[begin : begin + 16]
        assert torch.equal(tight.batch(part)[0], free.batch(part)[0])
        assert len(tight._known) <= 10
    assert len(free._known) == 40
    nothing = LatentDataset(data, latent, kept_bytes=0)
    assert torch.equal(nothing.batch([3, 3])[0], free.batch([3, 3])[0])
    assert len(nothing._known) == 0


# Plugins that change batches and samples ------------------------------------------------------------------------------


@pytest.fixture
def shift(tmp_path, monkeypatch):
    """Switches a plugin that shifts batches and samples on (by how much) and off (None)."""
    folder = tmp_path / "plugins"
    folder.mkdir()

    def switch(by):
        sys.modules.pop("shift", None)
        monkeypatch.setenv("ANYDIFF_PLUGINS", "waves" if by is None else "waves,shift")
        monkeypatch.delenv("ANYDIFF_PLUGINS_DIR", raising=False)
        use_folder(WAVES)
        if by is not None:
            (folder / "shift.py").write_text(SHIFT.format(by=by))
            use_folder(folder)
        forget()

    yield switch
    sys.modules.pop("shift", None)


def test_training_under_transform_batch_is_recorded(tmp_path, shift):
    recipe = load_recipe("waves/codes", ["training.steps=2"])
    assert "transforms" not in train(recipe, tmp_path / "plain").metadata
    shift(0.5)
    run = tmp_path / "run"
    pipeline = train(recipe, run)
    ((name, digest),) = json.loads(pipeline.metadata["transforms"]).items()
    assert (name, len(digest)) == ("shift.py", 64)
    for file in ("card.md", "config.yaml"):
        assert digest in (run / file).read_text()
    assert load_recipe(run / "config.yaml") == recipe
    pipeline.save(tmp_path / "exported.safetensors")
    assert load_metadata(tmp_path / "exported.safetensors")["transforms"] == pipeline.metadata["transforms"]
    train(recipe, run, resume=True)
    before = (run / FILE).read_bytes()
    for by, named in ((None, "no plugin"), (0.7, r"shift\.py \(")):
        shift(by)
        with pytest.raises(AnydiffError, match=rf"transform_batch is implemented by {named}.*begun with shift\.py"):
            train(recipe, run, resume=True)
    shift(0.5)
    with pytest.raises(AnydiffError, match=r"begun with no plugin"):
        train(recipe, tmp_path / "plain", resume=True)
    assert (run / FILE).read_bytes() == before


def test_a_stream_is_not_resumed_under_another_plugin_or_model(runs, tmp_path, shift, monkeypatch):
    path = tmp_path / "a.zarr"
    stream(load(runs / "model"), path, StreamRequest(2, cases=1), nfe=2)
    stream(load(runs / "model"), path, StreamRequest(2, cases=1), nfe=2, resume=True)
    shift(0.5)
    with pytest.raises(AnydiffError, match="transforms is"):
        stream(load(runs / "model"), path, StreamRequest(2, cases=1), nfe=2, resume=True)
    shift(None)
    pipeline = load(runs / "model")
    with torch.no_grad():
        next(pipeline.companions["latent"].denoiser.network.parameters()).add_(0.1)
    with pytest.raises(AnydiffError, match=r"(weights_hash|requires) is"):
        stream(pipeline, path, StreamRequest(2, cases=1), nfe=2, resume=True)
    assert np.asarray(load(runs / "model").sample(1, nfe=2)).shape == (1, 16)
