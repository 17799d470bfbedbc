"""Run folders: nothing is overwritten, torn and foreign files get one sentence, errors of the disk are told."""

from __future__ import annotations

import errno
import os
import pickle

import pytest
import safetensors.torch
import torch

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.training import RunFolder, load_into, save_weights, weights_hash

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


def test_a_run_is_written_and_read_back(tmp_path):
    run = RunFolder.create(tmp_path / "new" / "run", {"steps": 3, "betas": [0.9, 0.99]}, {"recipe": "{}"})
    run.save_weights(TENSORS, step="3")
    run.save_state({"step": 3, "tensors": TENSORS})
    run.write_card("# card")
    again = RunFolder.open(tmp_path / "new" / "run")
    assert again.config == {"steps": 3, "betas": [0.9, 0.99]}
    tensors, metadata = again.load_weights()
    assert weights_hash(tensors) == weights_hash(TENSORS)
    assert metadata["recipe"] == "{}"
    assert metadata["step"] == "3"
    assert again.load_state()["step"] == 3
    assert (again.path / "card.md").read_text() == "# card"
    assert again.samples.is_dir()


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    folder = tmp_path / "run"
    RunFolder.create(folder, {"steps": 1})
    with pytest.raises(AnydiffError, match="is not empty"):
        RunFolder.create(folder, {"steps": 2})
    assert RunFolder.open(folder).config == {"steps": 1}
    (folder / ".state.pt.abc.part").write_bytes(b"left by a kill")
    RunFolder.create(folder, {"steps": 2}, resume=True)
    assert RunFolder.open(folder).config == {"steps": 2}
    assert not list(folder.glob(".*.part"))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    for resume in (False, True):
        with pytest.raises(AnydiffError, match="choose another folder"):
            RunFolder.create(foreign, {}, resume=resume)
    assert [entry.name for entry in foreign.iterdir()] == ["thesis.tex"]
    with pytest.raises(AnydiffError, match="cannot use"):
        RunFolder.create(foreign / "thesis.tex", {})
    with pytest.raises(AnydiffError, match="is no run folder"):
        RunFolder.open(foreign)


def test_other_ranks_do_not_touch_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    RunFolder.create(tmp_path / "run", {"steps": 1})
    assert not (tmp_path / "run").exists()


def test_log_survives_a_kill_and_is_rewound(tmp_path):
    run = RunFolder.create(tmp_path / "run", {})
    for step in (5, 10, 15):
        run.log({"step": step, "loss": 1 / step})
    with open(run.path / "log.jsonl", "ab") as file:
        file.write(b'{"step": 20, "lo')
    assert [record["step"] for record in run.records()] == [5, 10, 15]
    run.rewind_log(10)
    run.log({"step": 15, "loss": 7.0})
    assert run.records() == [{"step": 5, "loss": 0.2}, {"step": 10, "loss": 0.1}, {"step": 15, "loss": 7.0}]


@pytest.mark.parametrize("keep", [0, 3, 40, 200])
def test_truncated_files_get_one_sentence(tmp_path, keep):
    run = RunFolder.create(tmp_path / "run", {})
    run.save_weights(TENSORS)
    run.save_state({"step": 3, "tensors": TENSORS})
    for name, load in (("model.safetensors", run.load_weights), ("state.pt", run.load_state)):
        file = run.path / name
        file.write_bytes(file.read_bytes()[: min(keep, file.stat().st_size - 1)])
        with pytest.raises(FileFormatError, match=f"{name}.*(truncated|holds)"):
            load()


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/anydiff-was-here",))


def test_foreign_files_get_one_sentence_and_are_not_executed(tmp_path):
    run = RunFolder.create(tmp_path / "run", {})
    safetensors.torch.save_file({"x": torch.ones(1)}, run.weights_path)
    with pytest.raises(FileFormatError, match="holds 'no anydiff format'"):
        run.load_weights()
    safetensors.torch.save_file({"x": torch.ones(1)}, run.weights_path, metadata={"format": "anydiff-weights-99"})
    with pytest.raises(FileFormatError, match="'anydiff-weights-99', but 'anydiff-weights-2'"):
        run.load_weights()
    state = run.path / "state.pt"
    torch.save({"format": "anydiff-state-0"}, state)
    with pytest.raises(FileFormatError, match="'anydiff-state-0', but 'anydiff-state-2'"):
        run.load_state()
    torch.save([1, 2], state)
    with pytest.raises(FileFormatError, match="no anydiff format"):
        run.load_state()
    for write in (lambda: state.write_bytes(pickle.dumps(Evil())), lambda: torch.save(Evil(), state)):
        write()
        with pytest.raises(FileFormatError, match="no checkpoint of anydiff"):
            run.load_state()
    assert not os.path.exists("/tmp/anydiff-was-here")


def test_weights_of_another_network_name_the_first_difference():
    module = torch.nn.Linear(2, 3)
    good = module.state_dict()
    for tensors, message in (
        ({"weight": good["weight"]}, "lacks the tensor 'bias'"),
        ({**good, "bias": torch.zeros(4)}, r"'bias' in .* has shape \(4,\)"),
        ({**good, "extra": torch.zeros(4)}, "unknown tensor 'extra'"),
    ):
        with pytest.raises(FileFormatError, match=message):
            load_into(module, tensors, "the file")


def test_a_full_disk_is_told_and_nothing_is_overwritten(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path / "run", {})
    run.save_weights(TENSORS)
    run.save_state({"step": 1})

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("anydiff.files.os.fsync", full)
    for save in (lambda: run.save_weights({"a": torch.zeros(1)}), lambda: run.save_state({"step": 2})):
        with pytest.raises(AnydiffError, match="No space left on device"):
            save()
    monkeypatch.setattr("torch.save", lambda *_: (_ for _ in ()).throw(RuntimeError("PytorchStreamWriter failed")))
    with pytest.raises(AnydiffError, match=r"cannot write .*PytorchStreamWriter failed"):
        run.save_state({"step": 2})
    monkeypatch.undo()
    assert run.load_state()["step"] == 1
    assert weights_hash(run.load_weights()[0]) == weights_hash(TENSORS)
    assert not list(run.path.glob(".*.part"))
    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(AnydiffError, match=r"log.jsonl.*No space left"):
        run.log({"step": 1})


def test_no_permission_is_told(tmp_path, monkeypatch):
    def refused(*_args, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("anydiff.files.tempfile.mkstemp", refused)
    with pytest.raises(AnydiffError, match=r"config.yaml.*Permission denied"):
        RunFolder.create(tmp_path / "run", {})


def test_existing_weights_are_not_overwritten(tmp_path):
    save_weights(tmp_path / "w.safetensors", TENSORS, {})
    with pytest.raises(AnydiffError, match="exists"):
        save_weights(tmp_path / "w.safetensors", {}, {})
