"""Each plugin from its wheel, with its declared requirements alone: imports, samples, a picture, the kit's checks."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from alone import ROOT, Alone

PLUGINS = {
    "audio": ("run", "--count", "2"),
    "images": ("images/fashion", "--count", "2"),
    "molecules": ("molecules/qm9", "--count", "2"),
    "pose": ("pose/diffpose", "--members", "1", "--cases", "2"),
    "text": ("run", "--count", "2"),
    "timeseries": ("timeseries/traffic", "--count", "2"),
    "trajectories": ("trajectories/maze", "--cases", "2"),
    "volumes": ("volumes/sadm", "--members", "1", "--cases", "1"),
    "weather": ("weather/gee", "--members", "2", "--cases", "1"),
}
"""Folder of each plugin, and a recipe of its own with bundled weights, with how many samples to ask for.

Where a plugin bundles no weights: the run that :data:`TRAINED` leaves.
"""
TRAINED = {
    "audio": (
        "audio/numbers-wave", "network.options.channels=8", "network.options.multipliers=[1]", "training.steps=2",
        "training.batch_size=4", "training.warmup_steps=0",
    ),
    "text": (
        "text/shakespeare", "domain.options.length=24", "dataset.options.size=64", "network.options.width=16",
        "network.options.blocks=1", "training.steps=2", "training.batch_size=8", "training.warmup_steps=0",
    ),
}  # fmt: skip
"""Recipe and changes of a short training, by plugin without bundled weights."""

KINDS = ("datasets", "domains", "metrics")
"""What needs more than torch: data, files, pictures, metrics. The tests of each plugin run the other checks."""
SLOW = {"volumes": ("datasets", "domains")}
"""Metrics of volumes take a minute and need nothing that samples and pictures do not."""

COMMANDS = """
import contextlib, importlib, json, pkgutil, sys
from anydiff.cli.main import run

name, *commands = json.loads(sys.argv[1])
for command in commands:
    with open(command.pop(), "w") as said, contextlib.redirect_stdout(said):
        code = run(command)
    if code:
        sys.exit(code)
package = importlib.import_module(name)
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""
"""Commands, each with the file for what it says, and then every module: one process, which imports torch once."""


ELSEWHERE = {"adapters"}
"""Without recipes of their own: tried in test_adapter_alone.py."""


def test_every_plugin_of_the_workspace_is_tried():
    assert set(PLUGINS) | ELSEWHERE == {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}


@pytest.mark.slow
@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_works_with_its_declared_requirements_alone(plugin, tmp_path):
    alone = Alone(tmp_path, "core", f"plugins/{plugin}")
    assert not {f"anydiff-{other}" for other in PLUGINS if other != plugin} & alone.linked
    package = ROOT / "plugins" / plugin / "src"
    held = set(zipfile.ZipFile(alone.wheels[f"plugins/{plugin}"]).namelist())
    files = {
        p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert files <= held, "data and weights are in the wheel"

    recipe, *count = PLUGINS[plugin]
    names = ("graphs", "molecules") if plugin == "molecules" else (plugin,)
    kinds = [option for kind in SLOW.get(plugin, KINDS) for option in ("--kind", kind)]
    commands = []
    if plugin in TRAINED:
        name, *changes = TRAINED[plugin]
        commands += [["train", name, "--out", recipe, *(w for c in changes for w in ("--set", c)), "trained"]]
    commands += [["sample", recipe, *count, "--nfe", "2", "--picture", "drawn.png", "sampled"]]
    commands += [["check", name, "--json", *kinds, f"checked-{name}"] for name in names]
    done = alone.run("-c", COMMANDS, json.dumps([f"anydiff_{plugin}", *commands]))
    failed = [
        each
        for said in tmp_path.glob("checked-*")
        for each in json.loads(said.read_text() or '{"checks": []}')["checks"]
        if each["status"] == "failed"
    ]
    assert done.returncode == 0, failed or done.stderr
    assert len(list(tmp_path.glob("checked-*"))) == len(names)
    assert Path(tmp_path, "drawn.png").read_bytes().startswith(b"\x89PNG")
