"""Other libraries' diffusion models in anydiff: what the plugin registers. Imports none of the libraries."""

from __future__ import annotations

from pathlib import Path

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.2,<3"

_TINY = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
}
ANYDIFF_CHECK_OPTIONS = {
    "adapters/arrays": {"shape": [1, 8, 8]},
    "adapters/files": {"path": str(Path(__file__).parent / "checked.npy"), "shape": [1, 8, 8]},
    "adapters/network": {"spec": [1, 8, 8], "library": "diffusers", "kind": "UNet2DModel", "config": _TINY},
}


@hookimpl
def register_domains(register: Register) -> None:
    """Arrays: the domain of a foreign model of which only the shape is known."""
    register("adapters/arrays", "arrays of one shape, as .npy and .npz", "anydiff_adapters.arrays:Arrays")


@hookimpl
def register_datasets(register: Register) -> None:
    """Files of arrays."""
    register(
        "adapters/files",
        "rows of .npy, Zarr, HDF5 and Parquet files",
        "anydiff_adapters.data:ArrayFiles",
    )


@hookimpl
def register_networks(register: Register) -> None:
    """The network of a model that an adapter read."""
    register("adapters/network", "another library's network by its configuration", "anydiff_adapters.networks:network")


@hookimpl
def register_adapters(register: Register) -> None:
    """One per library."""
    for name, help_, attribute, packages in (
        ("diffusers", "U-Nets and transformers of diffusers with their schedulers", "Diffusers", ["diffusers"]),
        ("edm", "preconditioned networks D(x, sigma) of EDM, EDM2 and PhysicsNeMo", "EDM", ["physicsnemo", "modulus"]),
        ("k-diffusion", "denoisers D(x, sigma) of k-diffusion", "KDiffusion", ["k_diffusion"]),
        ("azula", "denoisers of azula with their schedules", "Azula", ["azula"]),
        ("flow-matching", "velocity networks of flow_matching", "FlowMatching", ["flow_matching"]),
        ("lucidrains", "GaussianDiffusion of lucidrains", "Lucidrains", ["denoising_diffusion_pytorch"]),
        ("monai", "DiffusionModelUNet of MONAI with its schedulers", "Monai", ["monai"]),
        ("lerobot", "DiffusionPolicy of LeRobot", "LeRobot", ["lerobot"]),
    ):  # fmt: skip
        module = "edm" if name in ("edm", "k-diffusion") else name.replace("-", "_")
        register(f"adapters/{name}", help_, f"anydiff_adapters.of_{module}:{attribute}", packages=packages)
