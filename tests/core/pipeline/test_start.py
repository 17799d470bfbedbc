"""A training that begins with the weights of another model: which tensors are taken, what is recorded and refused."""

from __future__ import annotations

import shlex
import shutil
import sys

import pytest
import torch
import yaml
from found import EXAMPLES, found

from anydiff.cli.main import run as command_line
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.pipeline import Pipeline, load, train
from anydiff.pipeline.start import take_weights
from anydiff.recipes import Start, load_recipe
from anydiff.training import load_weights
from anydiff.training.weights import save_weights

FILE = "model.safetensors"
fit_module = sys.modules["anydiff.training.fit"]
SHORT = ["training.steps=20", "training.batch_size=32", "training.checkpoint_every=10", "training.schedule=constant"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of 20 steps, which the tests start from and leave as it is."""
    with found("two_moons", EXAMPLES, tmp_path_factory):
        folder = tmp_path_factory.mktemp("start") / "base"
        train(load_recipe("two_moons/small", SHORT), folder)
    return folder


def recipe(*changes):
    return load_recipe("two_moons/small", [*SHORT, *changes])


class Killed(Exception):
    pass


def killed_at(monkeypatch, step):
    """Trainings end as by a kill once ``step`` steps are done."""
    advance = fit_module._Training._advance

    def advanced(self, stop):
        if self.done.step == step:
            raise Killed
        return advance(self, stop)

    monkeypatch.setattr(fit_module._Training, "_advance", advanced)


def test_before_the_first_step_the_averages_are_the_bases_bit_for_bit(base, tmp_path, monkeypatch):
    seen = {}
    training_started = fit_module._Training._advance

    def look(self, stop):
        if self.done.step == 0:
            seen.update({name: each.clone() for name, each in self.averages["network"].tensors.items()})
        return training_started(self, stop)

    monkeypatch.setattr(fit_module._Training, "_advance", look)
    started = train(recipe("training.seed=3"), tmp_path / "run", start=base)
    tensors, _ = load_weights(base / FILE)
    assert seen.keys() == tensors.keys()
    assert all(torch.equal(seen[name], tensors[name]) for name in tensors)
    assert started.weights_hash != load(base).weights_hash


def test_a_killed_training_from_a_base_resumes_to_the_same_weights(base, tmp_path):
    whole = train(recipe(), tmp_path / "whole", start=base)
    for step in (5, 13):  # before the first checkpoint and after it
        folder = tmp_path / f"killed-{step}"
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, step)
            with pytest.raises(Killed):
                train(recipe(), folder, start=base)
        resumed = train(recipe(), folder, resume=True)
        assert resumed.weights_hash == whole.weights_hash
        assert resumed.recipe.hash == whole.recipe.hash


def test_a_state_goes_on_without_its_base(base, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, 13)
        with pytest.raises(Killed):
            train(recipe(), tmp_path / "run", start=moved)
    shutil.rmtree(moved)
    assert train(recipe(), tmp_path / "run", resume=True).recipe.start.source == str(moved)


def test_base_is_named_in_config_metadata_and_card(base, tmp_path):
    started = train(recipe(), tmp_path / "run", start=base)
    own = load(base)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    stored = started.recipe.start
    assert config["start"]["source"] == stored.source == str(base)
    assert config["start"]["weights_hash"] == stored.weights_hash == own.weights_hash
    assert config["start"]["recipe_hash"] == own.recipe.hash
    card = (tmp_path / "run" / "card.md").read_text()
    assert f"| base | {base}, sha256 `{own.weights_hash}` |" in card
    assert f"--from {base}" in card
    shutil.move(base, moved := base.with_name("away"))  # a model that was started from another one does not need it
    try:
        assert load(tmp_path / "run").weights_hash == started.weights_hash
    finally:
        shutil.move(moved, base)


def test_the_stored_command_reproduces_the_run(base, tmp_path, capsys):
    started = train(recipe("training.learning_rate=1e-05", "help=two words"), tmp_path / "run", start=base)
    words = shlex.split(started.metadata["command"])
    assert words[:3] == ["anydiff", "train", "two_moons/small"]
    assert command_line([*words[1:], "--out", str(tmp_path / "again")]) == 0
    again = load(tmp_path / "again")
    assert again.weights_hash == started.weights_hash
    assert again.recipe.hash == started.recipe.hash
    assert again.metadata["command"] == started.metadata["command"]
    # The run's own configuration, too, hashes of the base included.
    third = train(load_recipe(tmp_path / "run" / "config.yaml"), tmp_path / "third")
    assert third.weights_hash == started.weights_hash


def test_another_base_is_refused_on_resumption(base, tmp_path):
    other = tmp_path / "other"
    train(recipe("training.seed=9"), other)
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, 13)
        with pytest.raises(Killed):
            train(recipe(), tmp_path / "run", start=base)
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(AnydiffError, match=r"start is .*but the run in .* was begun with"):
        train(recipe(f"start={other}"), tmp_path / "run", resume=True)
    with pytest.raises(AnydiffError, match=r"leave start .* out"):
        train(recipe(), tmp_path / "run", start=base, resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert train(recipe(f"start={base}"), tmp_path / "run", resume=True)


def test_a_base_that_has_changed_since_is_refused(base, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    started = train(recipe(), tmp_path / "run", start=copy)
    train(recipe("training.seed=9"), tmp_path / "other")
    shutil.copy(tmp_path / "other" / FILE, copy / FILE)
    with pytest.raises(AnydiffError, match=r"now has the weights .* was written for .* start.weights_hash"):
        train(started.recipe, tmp_path / "again")


def test_tensors_that_differ_are_listed_and_refused_unless_partial(base, tmp_path):
    wider = recipe("network.options.blocks=3")
    with pytest.raises(AnydiffError, match=r"blocks\.2.*missing.*--partial"):
        train(wider, tmp_path / "run", start=base)
    assert not (tmp_path / "run").exists()
    with pytest.warns(UserWarning, match=r"in part: \d+ tensors match; \d+ of the network are not in it"):
        started = train(wider, tmp_path / "run", start=Start(source=str(base), partial=True))
    assert started.recipe.start.partial
    assert "what matched of it" in (tmp_path / "run" / "card.md").read_text()


def test_a_base_without_a_tensor_that_matches_is_refused(base):
    pipeline, other = Pipeline.untrained(recipe()), load(base)
    other.denoiser.network = torch.nn.Bilinear(3, 5, 7)
    with pytest.raises(AnydiffError, match=r"none of its 2 tensors matches .*0 tensors match; 28 of the network are"):
        take_weights(pipeline, other, Start(source="other", partial=True))


def test_frozen_parameters_stay_and_the_others_move(base, tmp_path):
    start = Start(source=str(base), freeze=("*bias", "entry*"))
    started = train(recipe(), tmp_path / "run", start=start)
    before, after = load_weights(base / FILE)[0], load_weights(tmp_path / "run" / FILE)[0]
    held = {name for name in before if torch.equal(before[name], after[name])}
    parameters = dict(load(base).denoiser.network.named_parameters())
    frozen = {name for name in parameters if name.endswith("bias") or name.startswith("entry")}
    assert frozen <= held
    assert held & set(parameters) == frozen
    assert "frozen: `*bias`, `entry*`" in (tmp_path / "run" / "card.md").read_text()
    for patterns, message in ((("nothing*",), "matches none of the network's"), (("*",), "leaves nothing to train")):
        with pytest.raises(AnydiffError, match=message):
            train(recipe(), tmp_path / "no", start=Start(source=str(base), freeze=patterns))
    assert not (tmp_path / "no").exists()
    assert started.recipe.start.freeze == ("*bias", "entry*")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["path=vp-cosine"], "whose path is .*Linear"),
        (["parametrization=noise"], "whose parametrization is 'edm'"),
        (["sigma_data=0.5"], "whose sigma_data is 0.7"),
    ],
)
def test_a_base_whose_weights_mean_something_else_is_refused(base, tmp_path, changes, message):
    with pytest.raises(AnydiffError, match=message):
        train(recipe(*changes), tmp_path / "run", start=Start(source=str(base), partial=True))
    assert not (tmp_path / "run").exists()


def test_a_base_that_cannot_be_loaded_is_refused(base, tmp_path):
    with pytest.raises(AnydiffError, match=r"start is 'nowhere', which cannot be loaded"):
        train(recipe(), tmp_path / "run", start="nowhere")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((base / FILE).read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"start is .* truncated"):
        train(recipe(), tmp_path / "run", start=cut)
    tensors, metadata = load_weights(base / FILE)
    quantised = tmp_path / "quantised.safetensors"
    save_weights(quantised, {name: (each * 100).to(torch.int8) for name, each in tensors.items()}, metadata)
    with pytest.raises(FileFormatError, match="int8, but the network holds float32"):
        train(recipe(), tmp_path / "run", start=quantised)
    assert not (tmp_path / "run").exists()


def test_options_of_a_base_need_one(tmp_path, capsys):
    assert command_line(["train", "two_moons/small", "--partial", "--out", str(tmp_path / "run")]) == 2
    assert "name the model with --from" in capsys.readouterr().err
    assert command_line(["train", "two_moons/small", "--freeze", "x", "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_of_the_command_line_keeps_its_base(base, tmp_path, capsys):
    words = ["train", "two_moons/small", *(word for each in SHORT for word in ("--set", each))]
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, 13)
        assert command_line([*words, "--from", str(base), "--out", str(tmp_path / "run")]) == 1
    again = [*words, "--out", str(tmp_path / "run"), "--resume"]
    assert command_line([*again, "--from", str(base)]) == 2
    assert "knows its base" in capsys.readouterr().err
    assert command_line(again) == 0
    assert load(tmp_path / "run").metadata["command"].endswith(f"--from {base}")


def test_changes_are_those_that_make_one_recipe_of_another(tmp_path):
    first, second = recipe(), recipe("training.learning_rate=1e-05", "network.options={width: 8}", "help='a: b'")
    assert first.changes_from(first) == []
    changes = second.changes_from(first)
    assert first.with_changes(changes).hash == second.hash
    assert all(change.partition("=")[0] in ("training.learning_rate", "network.options", "help") for change in changes)
