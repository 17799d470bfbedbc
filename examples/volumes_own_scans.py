"""Your own scans: a folder of NIfTI files to train on, and a patient's next scan in the geometry of the last one.

Try `anydiff --plugins-dir examples train volumes_own_scans/small`, or `python volumes_own_scans.py next.nii.gz`.
The scans are synthetic; put your own folder in their place.
"""

import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch

from anydiff import hookimpl, load
from anydiff.recipes import load_recipe
from anydiff_volumes.data import Folder
from anydiff_volumes.sadm import generate
from anydiff_volumes.templates import mni152

FOLDER = Path(tempfile.gettempdir()) / "volumes_own_scans"


@hookimpl
def register_datasets(register):
    register("volumes_own_scans", "synthetic scans in your own files", "volumes_own_scans:own_scans")


@hookimpl
def register_recipes(register):
    register("volumes_own_scans/small", "a small model of your own scans", "volumes_own_scans:small")


def scans(count=12):  # MR scans of 5 mm, left on the right, with numbers of the scanner's own
    FOLDER.mkdir(exist_ok=True)
    template = mni152()
    for number in range(count):
        brain = template.t1[::-1] * (700 + 20 * number) + np.random.default_rng(number).normal(0, 9, template.t1.shape)
        affine = template.affine @ np.diag([-1.0, 1, 1, 1]) + np.eye(4, 4, 3) * 3 * (template.t1.shape[0] - 1)
        nibabel.save(nibabel.Nifti1Image(brain.clip(0).astype(np.int16), affine), FOLDER / f"{number:03d}.nii.gz")
    return sorted(FOLDER.glob("*.nii.gz"))


def own_scans(split="train"):
    return Folder(str(scans()[0].parent), split, shape=(14, 16, 14), voxel_size=12.0)


def small():
    changes = ["domain.options={shape: [14, 16, 14], voxel_size: 12.0}", "network.options.channels=8"]
    recipe = load_recipe("volumes/brain", [*changes, "training.steps=100"]).model_dump(mode="json")
    return {**recipe, "name": "volumes_own_scans/small", "dataset": "volumes_own_scans"}


if __name__ == "__main__":
    pipeline, files = load("volumes/sadm"), scans()[:3]
    placed = [pipeline.domain.conform(nibabel.load(file)) for file in files]
    frames = torch.cat([pipeline.domain.encode([image for image, _ in placed]), torch.zeros(3, 1, 28, 32, 28)])[:, 0]
    seen = torch.arange(6)[None] < 3
    done = generate(pipeline, frames[None], seen, torch.arange(6)[None] / 6, positions=[3]).values[:, 3:4]
    nibabel.save(placed[-1][1].restore(pipeline.domain.decode(done)[0]), sys.argv[1])
