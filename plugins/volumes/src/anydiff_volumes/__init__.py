"""The domain of medical volumes: what it registers. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"
#: Small enough for the conformance kit (:mod:`anydiff.testing`).
ANYDIFF_CHECK_OPTIONS = {
    "volumes/population": {"train_size": 12, "test_size": 6},
    "volumes/sequences": {"train_size": 4, "test_size": 2, "frames": 6},
    "volumes/ellipsoids": {"train_size": 6, "test_size": 4},
}


@hookimpl
def register_domains(register: Register) -> None:
    """Volumes on one grid."""
    register("volumes", "NIfTI volumes of one grid, RAS+, MR or CT", "anydiff_volumes.domain:Volumes")


@hookimpl
def register_datasets(register: Register) -> None:
    """A population, longitudinal sequences, and a user's own folder."""
    data = "anydiff_volumes.data"
    register(
        "volumes/population",
        "brains of many subjects: MNI152 under random diffeomorphisms",
        f"{data}:Population",
        ledger="anydiff_volumes.ledger:MNI152",
    )
    register(
        "volumes/sequences", "brains over time: ageing and cardiac-like motion, frames missing", f"{data}:Sequences"
    )
    register(
        "volumes/ellipsoids",
        "oscillating ellipsoids, 8x16x16: the smallest sequences",
        "anydiff_volumes.ellipsoids:Ellipsoids",
    )
    register(
        "volumes/ct-organs",
        "patches of one CT scan with organ labels; by container",
        "anydiff_volumes.organs:CTOrgans",
        ledger="anydiff_volumes.ledger:CT_ORGANS",
    )
    register("volumes/folder", "your own NIfTI files", f"{data}:Folder")


@hookimpl
def register_networks(register: Register) -> None:
    """SADM's network."""
    register(
        "volumes/sequence-unet",
        "3-D U-Net conditioned on earlier volumes with gaps (SADM)",
        "anydiff_volumes.networks:SequenceUNet",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """Likeness to the truth, overlap, and a distance of features."""
    metrics = "anydiff_volumes.metrics"
    register("volumes/psnr", "peak signal-to-noise ratio against the truth", f"{metrics}:PSNR", paired=True)
    register("volumes/ssim", "structural similarity with the truth, 3-D window", f"{metrics}:SSIM", paired=True)
    register("volumes/nrmse", "root mean squared error over the truth's range", f"{metrics}:NRMSE", paired=True)
    register("volumes/dice", "overlap of bright tissue with the truth's", f"{metrics}:Dice", paired=True)
    register("volumes/frechet-distance", "Fréchet distance of hashed 3-D features", f"{metrics}:FrechetDistance")


@hookimpl
def register_recipes(register: Register) -> None:
    """Brains, unconditional and conditioned on a sequence."""
    for name, help in {
        "brain": "T1 brains at 6 mm, 28x32x28, unconditional",
        "brain-codes": "autoencoder of T1 brains at 6 mm",
        "brain-latent": "T1 brains at 6 mm, unconditional, by latent diffusion",
    }.items():
        recipe = f"anydiff_volumes.recipes:{name.replace('-', '_')}"
        register(f"volumes/{name}", help, recipe, weights=f"anydiff_volumes:weights/{name}.safetensors")
    register(
        "volumes/sadm",
        "the next frame of a sequence with gaps (SADM)",
        "anydiff_volumes.recipes:sadm",
        weights="anydiff_volumes:weights/sadm.safetensors",
    )
    register(
        "volumes/next-frame",
        "volumes/sadm with the data of the task volumes/sadm",
        "anydiff_volumes.recipes:next_frame",
        weights="anydiff_volumes:weights/sadm.safetensors",
    )


@hookimpl
def register_tasks(register: Register) -> None:
    """The next frame of a sequence, and brains without condition."""
    register(
        "volumes/sadm@2", "the last frame of a sequence from earlier ones, some missing", "anydiff_volumes.tasks:sadm"
    )
    register("volumes/brain-latent@1", "T1 brains at 6 mm by latent diffusion", "anydiff_volumes.tasks:brain_latent")
