"""What a network of packed integers is refused for, each in one sentence, with nothing written."""

from __future__ import annotations

import pytest
import torch

from anydiff.cli.app import run_application
from anydiff.compression import QuantiseOptions, integer
from anydiff.compression.quantised import QuantisedLayer
from anydiff.compression.quantisers import min_max
from anydiff.errors import FileFormatError
from anydiff.pipeline.quantise import quantise
from anydiff.training import load_weights
from anydiff.training.weights import save_weights

TINY = [
    *("--set", "network.options.channels=8", "--set", "training.steps=1"),
    *("--set", "training.batch_size=4", "--set", "training.warmup_steps=0"),
]


@pytest.fixture(scope="module")
def q8(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("quantised") / "q8.safetensors"
    quantise(pictures, QuantiseOptions(rounding="nearest", samples=12)).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "images/fashion", *TINY, "--from", "Q8", "--out", "OUT"], "start is .* is quantised (8 bits)"),
        (["train", "images/fashion", *TINY, "--from", "Q8", "--partial", "--out", "OUT"], "is quantised (8 bits)"),
        (["distil", "Q8", "--calls", "4,2", "--out", "OUT"], "a distillation needs weights that a gradient can move"),
        (["export", "Q8", "OUT.safetensors"], "export with --dtype float32"),
        (["export", "Q8", "OUT.safetensors", "--dtype", "bfloat16"], "export with --dtype float32"),
    ],
)
def test_what_needs_floating_numbers_is_refused(q8, tmp_path, capsys, words, sentence):
    out = tmp_path / "out"
    given = [word.replace("Q8", str(q8)).replace("OUT", str(out)) for word in words]
    assert run_application(given) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in sentence.split(" .* ")), told
    assert not list(tmp_path.iterdir())


def test_the_recipe_of_a_quantised_model_cannot_be_trained(q8, tmp_path, capsys):
    from anydiff.pipeline import load

    (tmp_path / "q8.yaml").write_text(load(q8).recipe.to_yaml())
    given = ["train", str(tmp_path / "q8.yaml"), "--set", "training.steps=1", "--out", str(tmp_path / "run")]
    assert run_application(given) == 2
    assert "a training needs weights that a gradient can move" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_an_export_as_float32_is_the_model_itself(q8, tmp_path):
    from anydiff.pipeline import load

    out = tmp_path / "same.safetensors"
    assert run_application(["export", str(q8), str(out), "--dtype", "float32"]) == 0
    assert load(out).weights_hash == load(q8).weights_hash


@pytest.mark.skipif(not integer.available(), reason="this machine has no integer operators")
def test_what_is_no_number_stays_none():
    """A cast to integers would make a level of NaN, and the sampler would never hear of it."""
    layer = QuantisedLayer(torch.nn.Conv2d(2, 3, 3, padding=1), 8, 8, None)
    layer.set_inputs([min_max(torch.tensor([-1.0, 3.0]), 8)])
    x = torch.zeros(2, 2, 5, 5)
    with torch.no_grad():
        clean = layer(x)
        x[1, 0, 2, 2] = torch.nan
        made = layer(x)
        x[1, 0, 2, 2] = torch.inf
        cut = layer(x)
    assert layer._integer is not None
    assert torch.allclose(made[0], clean[0], atol=1e-5)
    assert bool(made[1, :, 1:4, 1:4].isnan().all())
    assert bool(cut.isfinite().all())  # beyond the last level there is the last level


@pytest.mark.parametrize(
    ("tensor", "value", "sentence"),
    [
        ("x_scale", 0.0, "the activations of a quantised layer have a scale of 0"),
        ("x_scale", -0.5, "scales must be positive"),
        ("scale", 0.0, "the weights of a quantised layer"),
        ("x_zero", 256, "zero points levels from 0 to 255"),
        ("zero", 127, "zero points 128"),
    ],
)
def test_a_file_whose_scales_make_no_sense_is_refused(q8, tmp_path, tensor, value, sentence):
    from anydiff.pipeline import load

    tensors, metadata = load_weights(q8)
    name = next(name for name in tensors if name.endswith(f".{tensor}"))
    changed = tensors[name].clone()
    changed.view(-1)[0] = value
    save_weights(tmp_path / "bad.safetensors", {**tensors, name: changed}, metadata)
    with pytest.raises(FileFormatError, match=sentence):
        load(tmp_path / "bad.safetensors")
