"""Folders of diffusers as models: load, sample, save, command line, and every refusal in one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import anydiff
from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (anydiff-adapters[diffusers])")


def unet(**more):
    torch.manual_seed(0)
    options = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (4, 8), "layers_per_block": 1,
        "norm_num_groups": 2, "attention_head_dim": 4, "down_block_types": ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2,
    }  # fmt: skip
    return diffusers.UNet2DModel(**{**options, **more}).eval()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder of one network with its scheduler beside it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    unet(num_class_embeds=3).save_pretrained(folder)
    diffusers.DDIMScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "tiny")


def edit(path, **changes):
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **changes}))


def test_a_folder_loads_samples_and_is_saved_as_one_of_ours(folder, tmp_path):
    pipeline = anydiff.load(f"diffusers:{folder}")
    network = diffusers.UNet2DModel.from_pretrained(folder, use_safetensors=True).eval()
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder)
    label = torch.tensor([0, 2])
    x, asked = torch.randn(2, 1, 8, 8), Conditioning({"label": label})
    with torch.no_grad():
        ours = pipeline.denoiser(x, 400.0, asked)
        theirs = anydiff.wrap(network, scheduler)(x, 400.0, asked)
    assert torch.equal(ours, theirs)
    assert [part.name for part in pipeline.recipe.sampling.guidance] == ["clamp"]
    samples = pipeline.sample_set(2, nfe=4, condition={"label": label})
    pipeline.save(tmp_path / "ours.safetensors")
    again = anydiff.load(tmp_path / "ours.safetensors")
    assert again.weights_hash == pipeline.weights_hash
    assert again.recipe.hash == pipeline.recipe.hash
    assert torch.equal(again.sample_set(2, nfe=4, condition={"label": label}).states, samples.states)


def test_the_command_line_samples_a_folder(folder, tmp_path):
    out = tmp_path / "samples.npy"
    words = ["--count", "3", "--nfe", "3", "--condition", "label=1", "--out", str(out)]
    assert run(["sample", f"diffusers:{folder}", *words]) == 0
    assert np.load(out).shape == (3, 1, 8, 8)


def test_times_between_two_rungs_are_told_and_never_rounded(folder):
    denoiser = anydiff.load(f"diffusers:{folder}").denoiser
    seen = []
    denoiser.network.register_forward_pre_hook(lambda module, given: seen.append(given[1]))
    path, asked = denoiser.path, Conditioning({"label": torch.tensor([0])})
    middle = (path.log_snr(400.0) + path.log_snr(401.0)) / 2
    denoiser(torch.zeros(1, 1, 8, 8), path.time(middle), asked)
    assert float(seen[0][0]) == pytest.approx(400.5, abs=1e-6)


def test_a_pipeline_of_parts_is_read(folder, tmp_path):
    root = tmp_path / "pipeline"
    root.mkdir()
    shutil.copytree(folder, root / "unet")
    (root / "scheduler").mkdir()
    (root / "unet" / "scheduler_config.json").rename(root / "scheduler" / "scheduler_config.json")
    index = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
    (root / "model_index.json").write_text(json.dumps(index))
    assert anydiff.load(f"diffusers:{root}").weights_hash == anydiff.load(f"diffusers:{folder}").weights_hash
    edit(root / "model_index.json", vae=["diffusers", "AutoencoderKL"])
    with pytest.raises(AnydiffError, match="latents of an autoencoder"):
        anydiff.load(f"diffusers:{root}")


def spoiled(folder, what):
    weights, config = folder / "diffusion_pytorch_model.safetensors", folder / "config.json"
    scheduler = folder / "scheduler_config.json"
    if what == "no scheduler":
        scheduler.unlink()
    elif what == "no config":
        config.unlink()
    elif what == "pickled":
        weights.rename(folder / "diffusion_pytorch_model.bin")
    elif what == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif what == "class":
        edit(config, _class_name="UNet2DModul")
    elif what == "zero terminal":
        edit(scheduler, rescale_betas_zero_snr=True)
    elif what == "unknown option":
        edit(scheduler, beta_sedule="linear")
    elif what == "prediction":
        edit(scheduler, prediction_type="x_prediction")
    elif what == "scheduler":
        edit(scheduler, _class_name="DDIMShceduler")
    elif what == "embedding":
        edit(config, class_embed_type="timestep")
    elif what == "other weights":
        edit(config, block_out_channels=[4, 4])
    elif what == "size":
        edit(config, sample_size=None)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no scheduler", "has no scheduler_config.json"),
        ("no config", "has no config.json"),
        ("pickled", "which is pickled"),
        ("truncated", "is truncated or no safetensors file"),
        ("class", "did you mean 'UNet2DModel'"),
        ("zero terminal", "rescale_betas_zero_snr of DDIMScheduler is True"),
        ("unknown option", "has the option 'beta_sedule'"),
        ("prediction", "prediction_type of DDIMScheduler"),
        ("scheduler", "did you mean 'DDIMScheduler'"),
        ("embedding", "class_embed_type of UNet2DModel is 'timestep'"),
        ("other weights", "has shape"),
        ("size", "says no sample_size"),
    ],
)
def test_a_spoiled_folder_is_one_sentence(folder, what, words):
    spoiled(folder, what)
    with pytest.raises(AnydiffError) as raised:
        anydiff.load(f"diffusers:{folder}")
    text = str(raised.value)
    assert words.lower() in text.lower(), text
    assert "\n" not in text


def test_other_refusals(folder, tmp_path):
    for source, words in (
        ("diffuser:x", "did you mean"),
        (f"diffusers:{tmp_path / 'none'}", "does not exist"),
        (f"monai:{folder}", "reads no folders"),
    ):
        with pytest.raises(AnydiffError, match=words):
            anydiff.load(source)
    denoiser = anydiff.load(f"diffusers:{folder}").denoiser
    with pytest.raises(AnydiffError, match="reads the condition 'label', which is missing"):
        denoiser(torch.zeros(1, 1, 8, 8), 10.0)
    with pytest.raises(AnydiffError, match="comes without its scheduler"):
        anydiff.wrap(unet())
    with pytest.raises(AnydiffError, match="never trained without the condition 'label'"):
        anydiff.load(f"diffusers:{folder}").sample(1, nfe=2)


def test_plugins_are_listed_without_any_of_the_libraries():
    code = (
        "import sys; from anydiff.registry import registry; registry().entries('adapters');"
        "print([m for m in ('diffusers', 'monai', 'azula', 'flow_matching', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_training_begins_with_a_foreign_model(tmp_path):
    folder = tmp_path / "base"
    unet().save_pretrained(folder)
    diffusers.DDPMScheduler(clip_sample=False).save_pretrained(folder)
    base = anydiff.load(f"diffusers:{folder}")
    data = tmp_path / "own.npy"
    np.save(data, np.random.default_rng(0).standard_normal((20, 1, 8, 8)).astype(np.float32))
    changes = ["training.steps=2", "training.batch_size=4", f"dataset.options.path={data}"]
    (tmp_path / "fine.yaml").write_text(base.recipe.with_changes(changes).to_yaml())
    words = ["--from", f"diffusers:{folder}", "--out", str(tmp_path / "run")]
    assert run(["train", str(tmp_path / "fine.yaml"), *words]) == 0
    tuned = anydiff.load(tmp_path / "run")
    assert tuned.recipe.start is not None
    assert tuned.recipe.start.weights_hash == base.weights_hash
    moved = max(
        float((a - b).detach().abs().max())
        for a, b in zip(tuned.denoiser.parameters(), base.denoiser.parameters(), strict=True)
    )
    assert 0 < moved < 0.01
    with pytest.raises(AnydiffError, match="are not known; set dataset"):
        base.reference()
