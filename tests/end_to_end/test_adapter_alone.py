"""A fresh environment with the core, the adapters and one library: the lines of the page run, a folder is sampled."""

from __future__ import annotations

import importlib.util
import zipfile

import pytest
from alone import ROOT, Alone

SNIPPET = """
import json, sys
import diffusers, torch
import anydiff
from anydiff.cli.main import run

torch.manual_seed(0)
unet = diffusers.UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2,
    attention_head_dim=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
)
scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
unet.save_pretrained("model"), scheduler.save_pretrained("model")
denoiser = anydiff.wrap(unet, scheduler)
samples = anydiff.sample(denoiser, (1, 8, 8), 2, nfe=3)
assert samples.shape == (2, 1, 8, 8)
pipeline = anydiff.load("diffusers:model")
assert len(pipeline.sample(2, nfe=3)) == 2
sys.exit(run(["sample", "diffusers:model", "--count", "2", "--nfe", "3", "--out", "s.npy", "--picture", "s.png"]))
"""


@pytest.mark.slow
def test_one_adapter_works_alone(tmp_path):
    if importlib.util.find_spec("diffusers") is None:
        pytest.skip("diffusers is not installed (anydiff-adapters[diffusers])")
    alone = Alone(tmp_path, "core", "plugins/adapters", extras="diffusers")
    assert not {"anydiff-images", "monai", "azula"} & alone.linked
    held = set(zipfile.ZipFile(alone.wheels["plugins/adapters"]).namelist())
    package = ROOT / "plugins" / "adapters" / "src"
    files = {
        p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file() and "__pycache__" not in str(p)
    }
    assert files <= held
    done = alone.run("-c", SNIPPET)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
