"""Every command in the README, the documentation and the help is run, on small inputs; those that cannot be say why."""

from __future__ import annotations

import functools
import json
import re
import shutil

import console
import numpy as np
import pytest
import torch

from anydiff.pipeline import Pipeline, load
from anydiff.plugins import forget, report_to
from anydiff_trajectories.learner import behaviour_cloning

HELD_OUT = 136


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Things that readers have: a run, samples, files of their own; each made when a page first asks for it."""
    folder = tmp_path_factory.mktemp("shelf")

    def take(name):
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            MAKE[name](path)
        return path

    return take


@pytest.fixture
def desk(home, tmp_path, monkeypatch):
    """An empty folder to work in, with settings of its own, and nothing left behind."""
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
    monkeypatch.delenv("ANYDIFF_PLUGINS", raising=False)
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    forget()
    torch.set_num_threads(1)
    whole = Pipeline.reference
    # Metrics look at every held-out example, whatever the number of samples.
    monkeypatch.setattr(Pipeline, "reference", lambda self, count=None: whole(self, min(count or HELD_OUT, HELD_OUT)))
    # Of thousands of updates; a policy belongs to the data of the command that made it.
    cloning = functools.partial(behaviour_cloning, steps=40)
    monkeypatch.setattr("anydiff_trajectories.baselines.behaviour_cloning", cloning)
    yield desk
    monkeypatch.undo()
    report_to(None)
    forget()


def _run(path, *more):
    """A run of two steps."""
    command = f"anydiff train images/fashion --out {path} --set training.steps=2 --set training.batch_size=4"
    assert console.execute(f"{command} --set network.options.channels=8")[0] == 0


def _pictures(path):
    """Held-out pictures."""
    pipeline = load("images/fashion")
    reference = pipeline.reference(128)
    pipeline.domain.write(pipeline.domain.decode(reference.states), path)


def _hole(path):
    """A picture whose upper half is transparent."""
    from PIL import Image

    picture = load("images/fashion").domain.decode(load("images/fashion").reference(4).states)[3]
    opaque = Image.new("L", picture.size, 255)
    opaque.paste(0, (0, 0, picture.width, picture.height // 2))
    Image.merge("LA", [picture, opaque]).save(path)


def _classes(path):
    """A folder of pictures for each of two classes."""
    pictures = load("images/fashion").reference(24)
    domain = load("images/fashion").domain
    for number, picture in enumerate(domain.decode(pictures.states)):
        target = path / ("cat" if number % 2 else "dog") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.resize((32, 32)).convert("RGB").save(target)


def _small_pictures(path):
    """Twenty pictures of 28 x 28, called alike wherever they are made."""
    domain = load("images/fashion").domain
    path.mkdir()
    for number, picture in enumerate(domain.decode(load("images/fashion").reference(20).states)):
        picture.save(path / f"{number:02d}.png")


def _forecast(path):
    command = f"anydiff sample weather/gee --members 2 --cases 2 --nfe 1 --out {path}"
    assert console.execute(command)[0] == 0


def _patient(path):
    assert console.execute(f"anydiff sample volumes/brain --count 3 --nfe 1 --out {path}")[0] == 0


def _hopper(path):
    assert console.execute(f"anydiff trajectories make random --episodes 12 --out {path}")[0] == 0


def _series(path):
    hours = np.arange("2024-05-01", "2024-06-15", dtype="datetime64[h]")
    values = 100 + 10 * np.sin(np.arange(len(hours)) * 2 * np.pi / 24)
    rows = "".join(f"{hour},{value:.3f}\n" for hour, value in zip(hours, values, strict=True))
    path.write_text("time,load\n" + rows)


def _frames(path):
    from PIL import Image

    path.mkdir()
    for number in range(3):
        Image.new("RGB", (48, 64), (90, 90, 90)).save(path / f"{number}.png")


def _rewards(path):
    """Functions of rewards that a reader has written."""
    path.write_text(
        "def regional_mean(values):\n    return values.flatten(1).mean(1)\n\n\nbrightness = regional_mean\n"
    )


def _part_of_a_picture(path):
    """The left half of a held-out picture, its mask, a small or a blurred one, by the name of the file."""
    from PIL import Image

    from anydiff.inverse.operators import AveragePooling, Blur

    states = load("images/fashion").reference(1).states.double()
    picture = (states + 1) * 127.5
    left = torch.where(torch.arange(28) < 14, 1.0, 0.0)
    made = {
        "half": lambda: picture[0, 0] * left,
        "mask": lambda: (255 * left).expand(28, 28),
        "small": lambda: AveragePooling((1, 28, 28), 4).forward(picture)[0, 0],
        "blurred": lambda: Blur((1, 28, 28), 1.5).forward(picture)[0, 0],
    }[path.stem]()
    Image.fromarray(made.round().clamp(0, 255).byte().numpy()).save(path)


def _shoes(path):
    """Two held-out sneakers."""
    pipeline = load("images/fashion")
    found = pipeline.reference(60)
    rows = (found.condition.given["label"] == 7).nonzero()[:2, 0]
    pipeline.domain.write(pipeline.domain.decode(found.states[rows], found.condition.rows(rows)), path)


def _rows(path):
    """Forty held-out pictures as bytes, with their labels, in chunks of eight."""
    import zarr

    found = load("images/fashion").reference(40)
    group = zarr.create_group(path)
    pixels = ((found.states[:, 0] + 1) * 127.5).round().byte().numpy()
    for name, values in (("pixels", pixels), ("label", found.condition.given["label"].numpy())):
        array = group.create_array(
            name, shape=values.shape, chunks=(8, *values.shape[1:]), dtype=values.dtype,
            config={"write_empty_chunks": True},
        )  # fmt: skip
        array[:] = values


def _graph(path):
    import networkx

    networkx.write_graph6(networkx.path_graph(3), path)


SMILES = ["CCO", "CCN", "CC(=O)O", "C1CO1", "CCC", "CC#N", "CO", "CCOC", "C=CC", "OCCO", "NCCO", "CC(C)O"] * 2


def _verses(path):
    """A run of texts, of two steps."""
    command = console.smaller(f"anydiff train text/shakespeare --out {path}")
    assert console.execute(command)[0] == 0


MAKE = {
    "runs/shakespeare": _verses,
    "verses.jsonl": lambda path: path.write_text('{"text": "To be, or not to be"}\n'),
    "runs/fashion": _run,
    "my-samples": _pictures,
    "samples": _pictures,
    "pictures": _classes,
    "pictures.zarr": _rows,
    "clean-pictures": _small_pictures,
    "my-pictures": _small_pictures,
    "degraded-pictures": _small_pictures,
    "forecast.nc": _forecast,
    "patient": _patient,
    "hopper-medium-v2.hdf5": _hopper,
    "load.csv": _series,
    "history.csv": _series,
    "walk": _frames,
    "subgraph.g6": _graph,
    "mine.smi": lambda path: path.write_text("".join(f"{smiles}\n" for smiles in SMILES)),
    "mine.csv": lambda path: path.write_text("smiles\n" + "".join(f"{smiles}\n" for smiles in SMILES)),
    "clip.npz": lambda path: np.savez(path, frames=np.full((4, 64, 48, 3), 90, dtype=np.uint8)),
    "rewards.py": _rewards,
    "shoes": _shoes,
    "half.png": _part_of_a_picture,
    "hole.png": _hole,
    "mask.png": _part_of_a_picture,
    "small.png": _part_of_a_picture,
    "blurred.png": _part_of_a_picture,
    "my-recipe.yaml": lambda path: path.write_text(console.execute("anydiff recipes show images/fashion")[1]),
}
"""What the pages take for granted."""

PAGES = console.pages()


def _lay_out(page, desk, shelf):
    """Put what the page takes for granted on the desk."""
    text = "\n".join(text for kind, text in page.steps if kind or not console.reason_not_run(text))
    if re.search(r"--plugins-dir examples|examples/\w+\.py", text):
        shutil.copytree(console.ROOT / "examples", desk / "examples")
        console.forget_modules_of(console.ROOT / "examples")  # which other tests of this process imported
    for name in MAKE:
        if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.-])", text) and not _made_there(name, text):
            source, target = shelf(name), desk / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def _made_there(name, text):
    """Whether a command of the page makes it before any uses it."""
    first = next(line for line in text.splitlines() if name in line)
    return re.search(rf"(--out|train .* --out) {re.escape(name)}\b", first) is not None


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_command_of_a_page_runs(page, desk, shelf):
    _lay_out(page, desk, shelf)
    for kind, text in page.steps:
        if kind:
            (desk / kind).parent.mkdir(parents=True, exist_ok=True)
            (desk / kind).write_text(text)
        elif console.reason_not_run(text):
            if text.startswith("anydiff ") and "COMMAND" not in text:
                assert console.unknown_options(text) == [], text
        else:
            command = console.smaller(text)
            code, printed = console.execute(command)
            assert code == 0, f"{text!r}, run as {command!r}, ended with {code}"
            if "--json" in command:
                json.loads(printed, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_pages_are_found_and_few_commands_are_left_out():
    commands = [command for page in PAGES for command in page.commands]
    assert len(commands) > 100
    assert len({page.name for page in PAGES}) > 20
    left_out = [command for command in commands if console.reason_not_run(command)]
    assert len(left_out) < 0.4 * len(commands)
    for pattern, _ in console.NOT_RUN:
        assert any(re.search(pattern, command) for command in commands), f"nothing matches {pattern}; remove it"
    for pattern, _ in console.SMALLER:
        assert any(re.search(pattern, command) for command in commands), f"nothing matches {pattern}; remove it"
