"""Streaming: the same samples as in memory, in chunks; killed and resumed to the same bytes; nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
import zarr

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.pipeline import Pipeline, load
from anydiff.pipeline.stream import StreamRequest, stream
from anydiff.processes import Process
from anydiff.recipes import load_recipe

EXAMPLES = Path(__file__).parents[3] / "examples"
# One thread: several on a busy machine wait for one another, and the bytes are to be the same.
ALONE = {"ANYDIFF_PLUGINS_DIR": str(EXAMPLES), "ANYDIFF_PLUGINS": "two_moons", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def pipeline():
    made = Pipeline.untrained(load_recipe("two_moons/small"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


def tree(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with the hash of its bytes."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize(("cases", "chunk"), [(3, 8), (3, 2), (1, 5)])
def test_a_stream_holds_the_ensemble(pipeline, tmp_path, cases, chunk):
    condition = {"label": torch.arange(cases) % 2}
    path = stream(pipeline, tmp_path / "a.zarr", StreamRequest(7, condition, chunk=chunk, seed=4), nfe=3)
    samples = pipeline.ensemble_set(7, condition, seed=4, nfe=3)
    with xarray.open_zarr(path, consolidated=False) as found:
        values = found["point"].to_numpy()
        assert found["point"].dims == ("member", "case", "point_0")
        assert found["condition_label"].to_numpy().tolist() == condition["label"].tolist()
    np.testing.assert_allclose(values, samples.states.reshape(7, cases, 2).numpy(), atol=1e-5)
    about = zarr.open_group(str(path), mode="r").attrs["anydiff"]
    assert about["weights_hash"] == pipeline.weights_hash
    assert (about["seed"], about["members"], about["nfe"]) == (4, 7, 3)


def test_an_interrupted_stream_resumes_to_the_same_bytes(pipeline, tmp_path):
    condition = {"label": torch.tensor([0, 1, 1])}
    whole = stream(pipeline, tmp_path / "whole.zarr", StreamRequest(9, condition, chunk=3), nfe=2)

    def stop(done: int, total: int) -> None:
        assert total == 9
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(pipeline, tmp_path / "part.zarr", StreamRequest(9, condition, chunk=3), nfe=2, progress=stop)
    part = tmp_path / "part.zarr"
    assert len(tree(part)) < len(tree(whole))
    (part / "point" / "c" / "4" / "0").mkdir(parents=True)
    (part / "point" / "c" / "4" / "0" / "0.1234.partial").write_bytes(b"half a chunk")
    seen = []
    stream(
        pipeline,
        part,
        StreamRequest(9, condition, chunk=3),
        nfe=2,
        resume=True,
        progress=lambda done, total: seen.append(done),
    )
    assert seen[0] == 4
    assert tree(part) == tree(whole)
    stream(pipeline, part, StreamRequest(9, condition, chunk=3), nfe=2, resume=True)
    assert tree(part) == tree(whole)


def test_killed_by_the_system_it_resumes_to_the_same_bytes(pipeline, tmp_path, warm):
    weights = tmp_path / "model.safetensors"
    pipeline.save(weights)
    environment = {**os.environ, **ALONE}
    command = ["sample", str(weights), "--members", "1500", "--nfe", "20"]
    command += ["--batch-size", "50", "--out", str(tmp_path / "killed.zarr")]
    process = warm.begin(*command, "--resume", env=environment)
    chunks = tmp_path / "killed.zarr" / "point" / "c"
    limit = time.monotonic() + 60
    while sum(1 for _ in chunks.rglob("0")) < 4 and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was finished before it could be killed"
    done = sum(1 for file in chunks.rglob("*") if file.is_file())
    assert 0 < done < 30
    refused = warm(*command, env=environment)
    assert refused.returncode != 0
    assert "exists" in refused.stderr
    assert warm(*command, "--resume", env=environment).returncode == 0
    command[-1] = str(tmp_path / "whole.zarr")
    assert warm(*command, env=environment).returncode == 0
    assert tree(tmp_path / "killed.zarr") == tree(tmp_path / "whole.zarr")


def test_another_job_is_not_resumed_and_nothing_is_overwritten(pipeline, tmp_path):
    path = stream(pipeline, tmp_path / "a.zarr", StreamRequest(4, chunk=2), nfe=2)
    before = tree(path)
    with pytest.raises(AnydiffError, match="exists"):
        stream(pipeline, path, StreamRequest(4, chunk=2), nfe=2)
    for change, name in [({"seed": 1}, "seed"), ({"nfe": 3}, "nfe"), ({"chunk": 3}, "chunk")]:
        merged = {"chunk": 2, "seed": 0, "nfe": 2, **change}
        request = StreamRequest(4, chunk=merged.pop("chunk"), seed=merged.pop("seed"))
        with pytest.raises(AnydiffError, match=f"{name} is"):
            stream(pipeline, path, request, resume=True, **merged)
    with pytest.raises(AnydiffError, match="members is 5"):
        stream(pipeline, path, StreamRequest(5, chunk=2), nfe=2, resume=True)
    assert tree(path) == before
    stream(pipeline, path, StreamRequest(5, chunk=2), nfe=2, overwrite=True)
    assert zarr.open_group(str(path), mode="r")["point"].shape == (5, 1, 2)


def test_a_foreign_folder_is_left_alone(pipeline, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(FileFormatError, match="no sample set"):
        stream(pipeline, foreign, StreamRequest(2), nfe=2, resume=True)
    with pytest.raises(AnydiffError, match="not overwritten"):
        stream(pipeline, foreign, StreamRequest(2), nfe=2, overwrite=True)
    assert (foreign / "notes.txt").read_text() == "mine"
    (foreign / "zarr.json").write_text(json.dumps({"attributes": {}}))
    with pytest.raises(FileFormatError, match="no sample set"):
        stream(pipeline, foreign, StreamRequest(2), nfe=2, resume=True)


def test_what_cannot_be_written_is_said(pipeline, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnydiffError, match="cannot write"):
        stream(pipeline, tmp_path / "file" / "a.zarr", StreamRequest(2), nfe=2)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(AnydiffError, match="pip install 'anydiff"):
        stream(pipeline, tmp_path / "b.zarr", StreamRequest(2), nfe=2)
    assert not (tmp_path / "b.zarr").exists()


def test_the_command_line_draws_ensembles_of_held_out_cases(pipeline, tmp_path, warm):
    weights = tmp_path / "model.safetensors"
    pipeline.save(weights)
    environment = {**os.environ, **ALONE}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return warm("sample", str(weights), "--nfe", "2", *arguments, env=environment)

    done = run("--members", "3", "--cases", "5", "--out", str(tmp_path / "e.zarr"))
    assert done.returncode == 0, done.stderr
    assert "3 samples for each of 5 cases" in done.stderr
    with xarray.open_zarr(tmp_path / "e.zarr", consolidated=False) as found:
        assert found["point"].shape == (3, 5, 2)
        labels = load(weights).reference(5).condition.given["label"]
        assert found["condition_label"].to_numpy().tolist() == labels.tolist()
    done = run("--members", "3", "--cases", "5", "--out", str(tmp_path / "e.csv"))
    assert done.returncode == 0, done.stderr
    for wrong, sentence in [
        (["--resume"], "ends in .zarr"),
        (["--cases", "2", "--condition", "label=1"], "give --members"),
    ]:
        refused = run("--out", str(tmp_path / "x.csv"), *wrong)
        assert refused.returncode != 0
        assert sentence in refused.stderr


def test_a_sample_set_that_another_process_writes_is_refused(pipeline, tmp_path):
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    owner = {"pid": process.pid, "host": Process.this().host, "started": "", "machine": "mill", "since": "noon"}
    (tmp_path / ".a.zarr.lock").write_text(json.dumps(owner))
    try:
        with pytest.raises(AnydiffError, match=rf"a\.zarr' is in use by process {process.pid} on 'mill'"):
            stream(pipeline, tmp_path / "a.zarr", StreamRequest(2), nfe=2, resume=True)
        assert not (tmp_path / "a.zarr").exists()
    finally:
        process.kill()
        process.wait()
    stream(pipeline, tmp_path / "a.zarr", StreamRequest(2), nfe=2, resume=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]
