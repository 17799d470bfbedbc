"""Damaged files of every format: flipped bits, swapped and cut bytes end in one sentence or in finite values, soon.

``python test_mutated_files.py FORMAT COUNT [SEED]`` tries more of them and tells what fails.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import xarray
from PIL import Image

from anydiff.errors import AnydiffError
from anydiff.recipes import load_recipe
from anydiff.registry import registry

SECONDS = 10.0
Make = Callable[[Path], Path]
Read = Callable[[Path], Any]


def domain(name: str, **options: Any) -> Any:
    return registry().build("domains", name, **options)


def of_recipe(name: str) -> Any:
    return domain(load_recipe(name).domain.name, **load_recipe(name).domain.options)


# One small good file of each format, and how it is read ---------------------------------------------------------------


def picture(kind: str) -> tuple[Make, Read]:
    def make(folder: Path) -> Path:
        pixels = np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)
        Image.fromarray(pixels).save(folder / f"a.{kind}")
        return folder / f"a.{kind}"

    return make, lambda path: domain("images", channels=3, height=12, width=12).read(path)


def archive(name: str, values: Any) -> Make:
    def make(folder: Path) -> Path:
        np.savez(folder / "a.npz", **{name: values})
        return folder / "a.npz"

    return make


def nifti(ending: str) -> Make:
    def make(folder: Path) -> Path:
        values = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), folder / f"a{ending}")
        return folder / f"a{ending}"

    return make


def hdf5(folder: Path) -> Path:
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["observations"] = np.linspace(0, 1, 80, dtype=np.float32).reshape(40, 2)
        file["actions"] = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
        file["rewards"] = np.ones(40, dtype=np.float32)
        file["terminals"] = np.arange(40) % 20 == 19
        file["timeouts"] = np.zeros(40, dtype=bool)
    return folder / "a.hdf5"


def fields() -> xarray.Dataset:
    values = np.linspace(0, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    axes = {
        "time": pd.date_range("2020-01-01", periods=3, freq="6h"),
        "latitude": np.linspace(-60, 60, 4),
        "longitude": np.arange(5) * 72.0,
    }
    return xarray.Dataset({"t2m": (tuple(axes), values, {"units": "K"})}, coords=axes)


def netcdf(folder: Path) -> Path:
    fields().to_netcdf(folder / "a.nc", engine="h5netcdf")
    return folder / "a.nc"


def classic(folder: Path) -> Path:
    fields().to_netcdf(folder / "a.nc", engine="scipy", format="NETCDF3_64BIT")
    return folder / "a.nc"


def zarr(folder: Path) -> Path:
    fields().to_zarr(folder / "a.zarr", consolidated=False)
    return folder / "a.zarr"


def lines(folder: Path) -> Path:
    rows = [{"start": "2024-01-01 00:00", "target": [1.0, 2.5, 3.25] * 80, "item_id": name} for name in "ab"]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "a.jsonl"


def table(folder: Path) -> Path:
    stamps = pd.date_range("2024-01-01", periods=240, freq="h")
    pd.DataFrame({"timestamp": stamps, "target": np.arange(240.0)}).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def series(path: Path) -> Any:
    from anydiff_timeseries.files import read_series

    return read_series(path, "h")


def keypoints(folder: Path) -> Path:
    points = [value for joint in range(17) for value in (10 + joint, 20 + joint, 2)]
    frames = [{"image_id": frame, "category_id": 1, "keypoints": points, "score": 0.5} for frame in range(3)]
    (folder / "a.json").write_text(json.dumps(frames))
    return folder / "a.json"


def poses(path: Path) -> Any:
    from anydiff_pose.coco import read_poses
    from anydiff_pose.skeletons import load_skeleton

    return read_poses(path, load_skeleton("coco17"))


def molecules(ending: str) -> Make:
    def make(folder: Path) -> Path:
        from rdkit import Chem

        made = [Chem.MolFromSmiles(text) for text in ("CCO", "c1ccccc1", "CC(=O)N")]
        if ending == "sdf":
            with Chem.SDWriter(str(folder / "a.sdf")) as writer:
                for molecule in made:
                    writer.write(molecule)
        else:
            text = "\n".join(Chem.MolToSmiles(molecule) for molecule in made)
            (folder / f"a.{ending}").write_text(("smiles\n" if ending == "csv" else "") + text + "\n")
        return folder / f"a.{ending}"

    return make


def weights(folder: Path) -> Path:
    path = folder / "a.safetensors"
    registered = registry().get("recipes", "weather/gee").metadata["weights"]
    package, _, relative = str(registered).partition(":")
    from importlib import resources

    shutil.copyfile(str(resources.files(package).joinpath(relative)), path)
    return path


def loaded(path: Path) -> Any:
    from anydiff.pipeline import load

    return load(path).denoiser.network.state_dict()


def recipe(folder: Path) -> Path:
    (folder / "a.yaml").write_text(load_recipe("weather/gee").to_yaml())
    return folder / "a.yaml"


FORMATS: dict[str, tuple[Make, Read]] = {
    "png": picture("png"),
    "gif": picture("gif"),
    "tiff": picture("tif"),
    "jpeg": picture("jpg"),
    "images npz": (
        archive("images", np.zeros((2, 12, 12, 3), np.uint8)),
        lambda path: domain("images", channels=3, height=12, width=12).read(path),
    ),
    "nifti": (nifti(".nii"), lambda path: of_recipe("volumes/brain").read(path)),
    "nifti gz": (nifti(".nii.gz"), lambda path: of_recipe("volumes/brain").read(path)),
    "hdf5": (hdf5, lambda path: domain("trajectories").read(path)),
    "netcdf": (netcdf, lambda path: domain("weather").read(path)),
    "netcdf classic": (classic, lambda path: domain("weather").read(path)),
    "zarr": (zarr, lambda path: domain("weather").read(path)),
    "json lines": (lines, series),
    "csv": (table, series),
    "key points": (keypoints, poses),
    "sdf": (molecules("sdf"), lambda path: domain("molecules").read(path)),
    "smiles": (molecules("smi"), lambda path: domain("molecules").read(path)),
    "smiles csv": (molecules("csv"), lambda path: domain("molecules").read(path)),
    "weights": (weights, loaded),
    "recipe": (recipe, lambda path: load_recipe(path).canonical()),
}


MISSING = ("json lines", "csv")
"""Formats in which NaN stands for a missing value."""


# Damage -------------------------------------------------------------------------------------------------------------


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """Flipped bits, a swapped pair of parts, a cut, a doubled or an overwritten part; most in the first kilobytes."""
    changed = bytearray(content)
    reach = len(changed) if generator.random() < 0.5 else min(len(changed), 2048)
    kind = generator.integers(5)
    if kind == 0:
        for place in generator.integers(0, reach, int(generator.integers(1, 9))):
            changed[place] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        one, two = sorted(int(place) for place in generator.integers(0, reach, 2))
        size = int(generator.integers(1, 9))
        changed[one : one + size], changed[two : two + size] = changed[two : two + size], changed[one : one + size]
    elif kind == 2:
        del changed[int(generator.integers(len(changed))) :]
    elif kind == 3:
        place, size = int(generator.integers(reach)), int(generator.integers(1, 64))
        changed[place:place] = changed[place : place + size]
    else:
        place = int(generator.integers(reach))
        values = (b"\xff" * 8, b"\x00" * 8, b"[" * 200, b"9" * 30, b"NaN", b"1e999", b"\x7f\xff\xff\xff", b"-1", b'"')
        changed[place : place + 8] = values[int(generator.integers(len(values)))]
    return bytes(changed)


def numbers(value: Any, seen: set[int] | None = None) -> Iterator[np.ndarray[Any, Any]]:
    """Every array of numbers in what a reader gives."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (np.ndarray, float, np.floating, torch.Tensor, pd.Series)):
        yield np.asarray(value)
    elif isinstance(value, xarray.Dataset):
        yield from (each.to_numpy() for each in value.data_vars.values())
    elif hasattr(value, "get_fdata"):
        yield value.get_fdata()
        yield value.affine
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from numbers(each, seen)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from numbers(each, seen)
    elif dataclasses.is_dataclass(value):
        yield from numbers(vars(value), seen)


def fault(path: Path, read: Read, missing: bool = False) -> str | None:
    """What is wrong with how a damaged file was read, or None; with ``missing``, NaN stands for a missing value."""
    begun = time.process_time()  # a busy machine adds none
    found = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for array in numbers(read(path)):
                allowed = np.isnan(array) if missing and array.dtype.kind == "f" else False
                if array.dtype.kind in "fc" and not (np.isfinite(array) | allowed).all():
                    found = f"values that are not finite: {array.ravel()[~np.isfinite(array.ravel())][:3]}"
    except AnydiffError as error:
        found = None if "\n" not in str(error) and len(str(error)) < 1500 else f"not one sentence: {error}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__}: {str(error)[:200]} ({last.filename}:{last.lineno})"
    seconds = time.process_time() - begun
    return found or (f"took {seconds:.0f} s" if seconds > SECONDS else None)


def faults(name: str, folder: Path, count: int, seed: int) -> list[str]:
    make, read = FORMATS[name]
    good = folder / "good"
    good.mkdir()
    source = make(good)
    wrong = fault(source, read)
    if wrong:
        return [f"the good file: {wrong}"]
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        place = folder / f"{number}"
        shutil.copytree(good, place)
        files = sorted(file for file in (place / source.name, *place.rglob("*")) if file.is_file())
        file = files[int(generator.integers(len(files)))]
        file.write_bytes(damaged(file.read_bytes(), generator))
        wrong = fault(place / source.name, read, name in MISSING)
        if wrong:
            found.append(f"{number}: {wrong}")
        else:
            shutil.rmtree(place)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_ends_in_a_sentence_or_in_finite_values(name, tmp_path):
    assert faults(name, tmp_path, 30, 0) == []


@pytest.mark.parametrize("content", [b"", b"\x00", b"\n" * 9, b"[" * 100_000, b"\xff" * 4096, b"NaN", b"{}", b"[1]"])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "zarr"])
def test_an_empty_deep_or_foreign_file_ends_in_a_sentence(name, content, tmp_path):
    make, read = FORMATS[name]
    source = make(tmp_path)
    source.write_bytes(content)
    assert fault(source, read, name in MISSING) is None


def test_the_check_sees_what_it_looks_for(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert fault(tmp_path / "a", lambda path: [np.ones(3), {"a": (1.0, np.inf)}]).startswith("values that are not")
    assert fault(tmp_path / "a", lambda path: {}["a"]).startswith("KeyError")
    assert fault(tmp_path / "a", lambda path: load_recipe("weather/gee")) is None


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = list(FORMATS) if sys.argv[1] == "all" else [sys.argv[1]]
    for each in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            result = faults(each, Path(scratch), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
            print(each, f"{time.perf_counter() - start:.1f} s", len(result), *result[:12], sep="\n   ", flush=True)
