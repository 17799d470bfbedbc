"""Graphs without anydiff: the sampler as torch.export gives what the pipeline gives, and so does ONNX where it runs."""

from __future__ import annotations

import warnings

import pytest
import torch

import anydiff
from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.pipeline.graph import export_graph
from anydiff.states import NoiseSource

ROWS, CALLS = 2, 2


@pytest.fixture(scope="module")
def model():
    return anydiff.load("volumes/brain")


def noise_of(model, draws=1):
    source = NoiseSource(model.domain.spec, 3)
    return torch.stack([source.draw(range(ROWS), draw, torch.float32) for draw in range(draws)])


def test_the_sampler_is_the_pipelines(model, tmp_path, capsys):
    out = tmp_path / "sampler.pt2"
    words = ["--format", "torch-export", "--nfe", str(CALLS), "--batch", str(ROWS)]
    assert run(["export", "volumes/brain", str(out), *words]) == 0, capsys.readouterr().err
    graph = torch.export.load(out).module()
    with torch.no_grad():
        found = graph(noise_of(model))
    wanted = model.sample_set(ROWS, nfe=CALLS, seed=3).states
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


@pytest.mark.slow
def test_onnx_gives_the_same(model, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (anydiff[export])")
    out = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert export_graph(model, out, "onnx", "network", batch=ROWS) == ["x", "told"]
    x, told = noise_of(model)[0], torch.tensor([0.5, -1.0])
    (found,) = runtime.InferenceSession(str(out)).run(None, {"x": x.numpy(), "told": told.numpy()})
    with torch.no_grad():
        wanted = model.denoiser.network(x, told)
    assert float((torch.from_numpy(found) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_what_is_no_graph_is_said(model, tmp_path):
    with pytest.raises(AnydiffError, match=r"\.onnx"):
        export_graph(model, tmp_path / "sampler.pt2", "onnx", "sampler")
    posterior = anydiff.load("timeseries/traffic")
    with pytest.raises(AnydiffError, match="samples with a guidance, which a graph does not hold; export the network"):
        export_graph(posterior, tmp_path / "sampler.pt2", "torch-export", "sampler", nfe=1)
    assert not list(tmp_path.iterdir())
    assert run(["export", "volumes/brain", str(tmp_path / "a.onnx"), "--format", "onyx"]) != 0
