"""Seven domains through every face: sample, picture, evaluate, show, train on an own file, files read elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import console
import numpy as np
import pytest
import torch

from anydiff.pipeline import Pipeline, load
from anydiff.plugins import report_to

HELD_OUT = 104


def _png(path):
    from PIL import Image

    return sum(1 for file in path.iterdir() if Image.open(file).convert("L").size == (28, 28))


def _smiles(path):
    from rdkit import Chem

    return len([Chem.MolFromSmiles(line.split()[0], sanitize=False) for line in path.read_text().splitlines() if line])


def _netcdf(path):
    import xarray

    with xarray.open_dataset(path) as data:
        sizes = [size for name, size in data.sizes.items() if name not in ("latitude", "longitude")]
        assert np.isfinite(data[next(iter(data.data_vars))].to_numpy()).all()
    return int(np.prod(sizes))


def _pandas(path):
    import pandas

    frame = pandas.read_csv(path)
    assert frame["target"].notna().all()
    return frame["window"].nunique()


def _hdf5(path):
    import h5py

    with h5py.File(path) as file:
        ends = np.asarray(file["terminals"][:], dtype=bool) | np.asarray(file["timeouts"][:], dtype=bool)
        assert len(file["observations"]) == len(file["actions"]) == len(ends)
    return int(ends.sum())


def _nifti(path):
    import nibabel

    images = [nibabel.load(file) for file in sorted(path.iterdir())]
    assert {image.shape for image in images} == {(28, 32, 28)}
    return len(images)


def _coco(path):
    data = json.loads(path.read_text())
    assert all(len(each["keypoints"]) == 3 * len(data["categories"][0]["keypoints"]) for each in data["annotations"])
    return len(data["annotations"])


@dataclass(frozen=True)
class Row:
    """A domain in the table.

    Attributes:
        recipe: with bundled weights.
        file: where its samples are written.
        elsewhere: counts what stands there, with a library that is not ours.
        metric: one that few samples are enough for; all of the recipe's where empty.
        ask: how samples are asked for; four of them.
        own: commands that make a file of one's own.
        train: changes of the recipe that train on it, another recipe or a recipe file before them where it needs one.
        cases: of which held-out cases the samples are, where their metric asks and they do not tell.
    """

    recipe: str
    file: str
    elsewhere: Callable[[Path], int]
    metric: str
    ask: str
    own: tuple[str, ...]
    train: tuple[str, ...]
    cases: str = ""


ROWS = {
    "images": Row(
        "images/fashion", "made", _png, "images/class-consistency", "--cases 4",
        ("anydiff sample images/fashion --cases 24 --nfe 1 --out own",),
        ("dataset={name: images/folder, options: {path: own, size: 28, channels: 1}}",
         "domain={name: images, options: {channels: 1, height: 28, width: 28}}", "network.options.channels=8"),
    ),
    "molecules": Row(
        "molecules/qm9", "made.smi", _smiles, "molecules/validity", "--count 4",
        (), ("molecules/zinc", "dataset.name=molecules/file", "dataset.options.path=own.smi"),
    ),
    "weather": Row(
        "weather/gee", "made.nc", _netcdf, "weather/crps", "--cases 2 --members 2",
        ("anydiff sample weather/gee --cases 5 --members 5 --nfe 1 --out own.nc",),
        ("dataset={name: weather/files, options: {forecast: own.nc, climatology: lorenz96}}",),
    ),
    "timeseries": Row(
        "timeseries/traffic", "made.csv", _pandas, "timeseries/crps", "--cases 4",
        (), ("dataset={name: timeseries/csv, options: {path: own.csv, boundary: 2024-06-01}}",),
    ),
    "trajectories": Row(
        "trajectories/maze", "made.hdf5", _hdf5, "trajectories/dynamics-error", "--cases 12",
        ("anydiff trajectories make random --episodes 12 --out own.hdf5",
         "anydiff trajectories recipe own.hdf5 --out own.yaml"), ("own.yaml",),
    ),
    "volumes": Row(
        "volumes/brain", "made", _nifti, "volumes/frechet-distance", "--count 4",
        ("anydiff sample volumes/brain --count 12 --nfe 1 --out own",),
        ("dataset={name: volumes/folder, options: {path: own}}", "domain.options.origin=null"),
    ),
    "pose": Row(
        "pose/diffpose", "made.json", _coco, "pose/pck", "--cases 4",
        ("anydiff sample pose/diffpose --condition frames=own.npz --count 16 --nfe 1 --out own.json",),
        ("dataset={name: pose/annotated, options: {frames: own.npz, annotations: own.json}}",),
        "--cases 4",
    ),
}  # fmt: skip
WITHOUT_CONDITION = {"images/class-consistency": "images/precision", "timeseries/crps": "timeseries/autocorrelation"}
"""What files are judged by, which do not say what their samples were asked for."""
ENOUGH = {"images": 100, "volumes": 64, "trajectories": 12}
"""How many samples the metric needs at least; four where nothing is said."""


@pytest.fixture(scope="module", autouse=True)
def desk(tmp_path_factory):
    """A folder to work in for the whole table, with files of one's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("matrix")
        patch.setenv("ANYDIFF_HOME", str(folder / "home"))
        patch.delenv("ANYDIFF_PLUGINS", raising=False)
        whole = Pipeline.reference
        patch.setattr(Pipeline, "reference", lambda self, count=None: whole(self, min(count or HELD_OUT, HELD_OUT)))
        torch.set_num_threads(1)
        (folder / "molecules").mkdir()
        smiles = ["CCO", "CCN", "CC(=O)O", "C1CO1", "CCC", "CC#N", "CO", "CCOC", "C=CC", "OCCO", "NCCO", "CC(C)O"]
        (folder / "molecules" / "own.smi").write_text("".join(f"{each}\n" for each in smiles))
        (folder / "timeseries").mkdir()
        hours = np.arange("2024-05-01", "2024-06-15", dtype="datetime64[h]")
        rows = [f"{hour},{100 + 10 * np.sin(place / 3.8):.3f}" for place, hour in enumerate(hours)]
        (folder / "timeseries" / "own.csv").write_text("time,load\n" + "\n".join(rows))
        (folder / "pose").mkdir()
        np.savez(folder / "pose" / "own.npz", frames=np.full((16, 64, 48, 3), 90, dtype=np.uint8))
        yield folder
    report_to(None)


@pytest.fixture
def at(desk, monkeypatch):
    """Work in the folder of a domain, in which its samples have been drawn with a picture."""

    def at(domain):
        place = desk / domain
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        row = ROWS[domain]
        if not (place / row.file).exists():
            _run(f"sample {row.recipe} {row.ask} --nfe 2 --out {row.file} --picture made.png")
        return row

    return at


def _run(command):
    code, printed = console.execute(f"anydiff {command}")
    assert code == 0, command
    return printed


def _is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def sample_and_picture(row, count):
    assert Path(row.file).exists()
    assert _is_png(Path("made.png"))


def read_elsewhere(row, count):
    assert row.elsewhere(Path(row.file)) == count


def read_back(row, count):
    domain = load(row.recipe).domain
    objects = domain.read(row.file)
    assert len(objects) == count
    assert tuple(domain.encode(objects).shape) == (count, *domain.spec.shape)


def evaluate(row, count):
    enough = ENOUGH.get(row.recipe.partition("/")[0], 4)
    found = json.loads(_run(f"evaluate {row.recipe} --count {enough} --nfe 1 --json --set 'metrics=[{row.metric}]'"))
    assert np.isfinite(found[row.metric]["value"])
    assert found[row.metric]["samples"] == enough


def evaluate_samples(row, count):
    judged = WITHOUT_CONDITION.get(row.metric, row.metric)
    file, enough = row.file, ENOUGH.get(row.recipe.partition("/")[0], 4)
    if enough > count:
        file = "many"
        _run(f"sample {row.recipe} --count {enough} --nfe 1 --out many")
    found = json.loads(_run(f"evaluate {row.recipe} --samples {file} {row.cases} --json --set 'metrics=[{judged}]'"))
    assert np.isfinite(found[judged]["value"])


def show(row, count):
    for options in ("--count 2", "--count 2 --data", f"--samples {row.file} --count 2"):
        _run(f"show {row.recipe} {options} --out show.png --overwrite")
        assert _is_png(Path("show.png"))


def train_on_an_own_file(row, count):
    for command in row.own:
        _run(command.removeprefix("anydiff "))
    recipe, *changes = (row.recipe, *row.train) if "=" in row.train[0] else row.train
    small = ["training.steps=2", "training.batch_size=4"]
    _run(f"train {recipe} --out run " + " ".join(f"--set '{change}'" for change in [*changes, *small]))
    pipeline = load("run")
    reference = pipeline.reference(2)
    assert torch.isfinite(pipeline.like(reference, 2, nfe=2).states).all()


CELLS = [sample_and_picture, read_elsewhere, read_back, evaluate, evaluate_samples, show, train_on_an_own_file]


@pytest.mark.parametrize("cell", CELLS, ids=[cell.__name__ for cell in CELLS])
@pytest.mark.parametrize("domain", ROWS)
def test_the_cell_works(domain, cell, at):
    row = at(domain)
    cell(row, 12 if domain == "trajectories" else 4)
