"""--log: each tracker with its real library, on its own store; the training is the same with any and with none."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import train
from anydiff.pipeline.trackers import TRACKERS, tracker
from anydiff.recipes import load_recipe

CHANGES = [
    "training.steps=4", "training.batch_size=8", "training.log_every=2", "training.checkpoint_every=2",
    "sampling.nfe=2",
]  # fmt: skip


def trained(folder, *names):
    recipe = load_recipe("two_moons/small", CHANGES)
    for name in names:
        with tracker(name, recipe) as listener:
            return train(recipe, folder, listeners=[listener])
    return train(recipe, folder)


def losses(folder):
    import json

    return {
        row["step"]: row["loss"]
        for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        if "loss" in row
    }


@pytest.mark.slow
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (anydiff[tensorboard])")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pipeline = trained(tmp_path / "run", "tensorboard")
    assert pipeline.weights_hash == trained(tmp_path / "plain").weights_hash
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    wanted = losses(tmp_path / "run")
    assert set(wanted) == {2, 4}
    assert {each.step: each.value for each in events.Scalars("loss")} == pytest.approx(wanted)
    assert [each.step for each in events.Images("samples")] == [2, 4]
    text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert pipeline.recipe.hash in text


@pytest.mark.slow
def test_mlflow_on_a_local_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (anydiff[mlflow])")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed (anydiff[mlflow])")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    pipeline = trained(tmp_path / "run", "mlflow")
    (run,) = mlflow.search_runs(experiment_names=[pipeline.recipe.name], output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.tags["recipe_hash"] == pipeline.recipe.hash
    found = {each.step: each.value for each in mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")}
    assert found == pytest.approx(losses(tmp_path / "run"))


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed (anydiff[wandb])")
    monkeypatch.setenv("WANDB_SILENT", "true")
    pipeline = trained(tmp_path / "run", "wandb")
    wandb.teardown()  # what a process does at its end: the log is on disk
    (store,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (log,) = store.glob("*.wandb")
    content = log.read_bytes()
    assert pipeline.recipe.hash.encode() in content
    assert b"samples" in content
    assert list(store.rglob("*.png"))


def test_an_unknown_tracker_and_one_that_is_not_there(monkeypatch):
    recipe = load_recipe("two_moons/small", CHANGES)
    with pytest.raises(UnknownNameError, match="did you mean 'tensorboard'"):
        tracker("tensorbord", recipe)
    for name, kind in TRACKERS.items():
        monkeypatch.setattr(kind, "module", "no_such_library")
        with pytest.raises(AnydiffError, match=rf"--log {name} needs no_such_library.*anydiff\[{name}\]"):
            tracker(name, recipe)
