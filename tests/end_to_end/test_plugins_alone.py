"""Each plugin from its wheel, with its declared requirements alone: imports, samples, a picture, the kit's checks."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from alone import ROOT, Alone

PLUGINS = {
    "images": ("images/fashion", "--count", "2"),
    "molecules": ("molecules/qm9", "--count", "2"),
    "pose": ("pose/diffpose", "--members", "1", "--cases", "2"),
    "timeseries": ("timeseries/traffic", "--count", "2"),
    "trajectories": ("trajectories/maze", "--cases", "2"),
    "volumes": ("volumes/sadm", "--members", "1", "--cases", "1"),
    "weather": ("weather/gee", "--members", "2", "--cases", "1"),
}
"""Folder of each plugin, and a recipe of its own with bundled weights, with how many samples to ask for."""

KINDS = ("datasets", "domains", "metrics")
"""What needs more than torch: data, files, pictures, metrics. The tests of each plugin run the other checks."""
SLOW = {"volumes": ("datasets", "domains")}
"""Metrics of volumes take a minute and need nothing that samples and pictures do not."""

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""


def test_every_plugin_of_the_workspace_is_tried():
    assert set(PLUGINS) == {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}


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

    done = alone.run("-c", IMPORT_ALL, f"anydiff_{plugin}")
    assert done.returncode == 0, done.stderr
    recipe, *count = PLUGINS[plugin]
    done = alone.run("-m", "anydiff", "sample", recipe, *count, "--nfe", "2", "--picture", "drawn.png")
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path, "drawn.png").read_bytes().startswith(b"\x89PNG")

    for name in ("graphs", "molecules") if plugin == "molecules" else (plugin,):
        kinds = [option for kind in SLOW.get(plugin, KINDS) for option in ("--kind", kind)]
        done = alone.run("-m", "anydiff", "check", name, "--json", *kinds)
        failed = [each for each in json.loads(done.stdout)["checks"] if each["status"] == "failed"]
        assert done.returncode == 0, failed or done.stderr
