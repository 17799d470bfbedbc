"""No reader beside the guard: calls that parse files stand in its modules, inside ``with reading`` or in a list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import anydiff

ROOT = Path(anydiff.__file__).parents[3]
ENGINE = ROOT / "benchmarks" / "src" / "anydiff_benchmarks" / "engine"
SOURCES = sorted([*(ROOT / "core" / "src").rglob("*.py"), *ROOT.glob("plugins/*/src/**/*.py"), *ENGINE.rglob("*.py")])
RAW = {
    "yaml.safe_load", "yaml.load", "yaml.unsafe_load", "json.load", "json.loads", "np.load", "Image.open", "h5py.File",
    "nibabel.load", "xarray.open_dataset", "xarray.open_zarr", "pydicom.dcmread", "Chem.SDMolSupplier", "pickle.load",
    "pickle.loads",
}  # fmt: skip
GUARD = {"reading.py", "hdf5.py", "arrays.py", "frames.py"}
OWN = {
    # What anydiff itself has written, for its own processes and state.
    "core/src/anydiff/locks.py", "core/src/anydiff/plugins/probe.py", "core/src/anydiff/plugins/state.py",
    "core/src/anydiff/testing", "core/src/anydiff/training/weights.py", "core/src/anydiff/pipeline/train.py",
    "core/src/anydiff/tasks/lock.py", "core/src/anydiff/plugins",
    "benchmarks/src/anydiff_benchmarks/engine/identity.py",
    "benchmarks/src/anydiff_benchmarks/engine/report/page.py",
    "benchmarks/src/anydiff_benchmarks/engine/store.py", "benchmarks/src/anydiff_benchmarks/engine/truth.py",
    # Files inside the wheels and containers whose sha256 was checked, and scripts that make them.
    "plugins/images/src/anydiff_images/bundle.py", "plugins/images/src/anydiff_images/classifier.py",
    "plugins/images/src/anydiff_images/official.py", "plugins/molecules/src/anydiff_molecules/bundle.py",
    "plugins/pose/src/anydiff_pose/motion.py", "plugins/timeseries/src/anydiff_timeseries/bundle.py",
    "plugins/volumes/src/anydiff_volumes/templates.py", "plugins/weather/src/anydiff_weather/bundle.py",
    # Metadata whose reader catches everything itself.
    "plugins/trajectories/src/anydiff_trajectories/minari_folder.py",
    # Called by a reader that stands behind the guard.
    "plugins/molecules/src/anydiff_molecules/files.py",
    "plugins/timeseries/src/anydiff_timeseries/predictor.py",
}  # fmt: skip


def raw_calls(tree: ast.AST, guarded: bool = False) -> list[tuple[int, str]]:
    """(line, name) of the raw calls in ``tree`` that stand outside of every ``with reading(...)``."""
    found = []
    for node in ast.iter_child_nodes(tree):
        inside = guarded
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            inside = guarded or any(ast.unparse(call.func) in ("reading", "guard.reading") for call in calls)
        if isinstance(node, ast.Call) and not guarded and ast.unparse(node.func) in RAW and not _writes(node):
            found.append((node.lineno, ast.unparse(node.func)))
        found += raw_calls(node, inside)
    return found


def _writes(call: ast.Call) -> bool:
    return any(isinstance(each, ast.Constant) and each.value in ("w", "a") for each in call.args)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_readers_stand_behind_the_guard(path):
    name = path.relative_to(ROOT).as_posix()
    if (path.parent.name == "data" and path.name in GUARD) or any(name.startswith(own) for own in OWN):
        return
    assert raw_calls(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_the_check_sees_a_reader_beside_the_guard():
    assert raw_calls(ast.parse("def f(p):\n    return json.loads(p.read_text())")) == [(2, "json.loads")]
    assert raw_calls(ast.parse("with reading(p, 'x', 'y'):\n    a = np.load(p)")) == []
    assert raw_calls(ast.parse("with reading(p, 'x', 'y'), h5py.File(p, 'r') as f:\n    pass")) == []
    assert raw_calls(ast.parse("with h5py.File(p, 'w') as f:\n    pass")) == []
