"""What must not move when code moves: digests of every plan, of samples of every bundled model, of short trainings.

A change of shape (files, interfaces) is proved by equal digests before and after it, on one machine, since rounding
differs between processors::

    python tests/digests.py before.json        # in the tree before
    python tests/digests.py after.json         # in the tree after
    python tests/digests.py before.json after.json

The last command prints what differs and exits with 1 if anything does. ``--only plans`` (or ``samples``, ``trainings``)
takes one part, ``--match fashion`` what holds a text. The file is written after each entry, and a run that was killed
goes on behind it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.files import write_atomic
from anydiff.pipeline import load, train
from anydiff.plugins import loaded
from anydiff.recipes import load_recipe
from anydiff.registry import Entry, registry
from anydiff.solvers import compile_plan
from anydiff.solvers.plan import FORMAT

BUDGETS = (5, 10, 20)
SAMPLES, STEPS = 16, 20


def digest(*values: Tensor | str) -> str:
    """sha256 (hex) over tensors, by type, shape and bytes, and texts."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            found.update(f"{plain.dtype}:{tuple(plain.shape)}".encode())
            found.update(plain.flatten().view(torch.uint8).numpy().tobytes())
        else:
            found.update(value.encode())
    return found.hexdigest()[:24]


def plans() -> Iterator[tuple[str, Callable[[], str]]]:
    """Every registered solver on every registered path at three budgets."""
    for solver in registry().entries("solvers"):
        for path in registry().entries("paths"):
            for nfe in BUDGETS:
                yield f"plan {solver.name} {path.name} {nfe}", lambda s=solver, p=path, n=nfe: _plan(s, p, n)


def _plan(solver: Entry, path: Entry, nfe: int) -> str:
    made = compile_plan(solver.name, registry().build("paths", path.name), nfe)
    # The number of the format says what can be stored, not what is computed.
    return digest(made.to_json().replace(f'"format": {FORMAT}', '"format": 1'))


def samples() -> Iterator[tuple[str, Callable[[], str]]]:
    """Samples of every recipe with bundled weights, conditioned as the held-out data are."""
    for entry in registry().entries("recipes"):
        if entry.metadata.get("weights"):
            yield f"samples {entry.name}", lambda e=entry: _samples(e)


def _samples(entry: Entry) -> str:
    pipeline = load(entry.name)
    reference = pipeline.reference(SAMPLES)
    if pipeline.denoiser.network.__class__.__name__ == "Autoencoder":
        with torch.no_grad():
            return digest(pipeline.weights_hash, pipeline.denoiser.network(reference.states))
    made = pipeline.sample_set(
        SAMPLES, nfe=6, seed=3, condition=reference.asked(SAMPLES), cases=min(SAMPLES, len(reference))
    )
    return digest(pipeline.weights_hash, made.states)


def trainings() -> Iterator[tuple[str, Callable[[], str]]]:
    """Twenty steps of every recipe whose data are here, of the size in which its plugin has it checked."""
    modules = [loaded().hooks.plugin(plugin.name) for plugin in loaded().plugins]
    options: dict[str, dict[str, object]] = {}
    for module in modules:
        options.update(getattr(module, "ANYDIFF_CHECK_OPTIONS", {}))
    for entry in registry().entries("recipes"):
        yield f"training {entry.name}", lambda e=entry: _training(e, options.get(e.name, {}))


def _training(entry: Entry, options: dict[str, object]) -> str:
    short = [f"training.steps={STEPS}", "training.batch_size=4", "training.warmup_steps=2"]
    changes = [f"{key}={json.dumps(value)}" for key, value in options.items()]
    with tempfile.TemporaryDirectory() as folder:
        pipeline = train(load_recipe(entry.name, [*changes, *short]), Path(folder) / "run")
        return digest(pipeline.weights_hash)


def main() -> int:
    """Write digests, or compare two files of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--only", choices=("plans", "samples", "trainings"))
    parser.add_argument("--match", default="")
    given = parser.parse_args()
    if len(given.files) == 2:
        before, after = (json.loads(file.read_text()) for file in given.files)
        differing = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        for name in sorted(differing):
            print(f"{name}: {before.get(name)} -> {after.get(name)}")
        print(f"{len(differing)} of {len(before.keys() | after.keys())} differ")
        return 1 if differing else 0
    torch.set_num_threads(1)
    found = json.loads(given.files[0].read_text()) if given.files[0].exists() else {}
    parts = {"plans": plans, "samples": samples, "trainings": trainings}
    for part, entries in parts.items():
        for name, make in entries() if given.only in (None, part) else ():
            if name in found or given.match not in name:
                continue
            try:
                found[name] = make()
            except AnydiffError as error:  # a solver that cannot travel a path, data that are not here
                found[name] = f"refused: {error}"
            if part != "plans":
                print(name, found[name], file=sys.stderr)
                write_atomic(given.files[0], json.dumps(found, indent=1, sort_keys=True))
    write_atomic(given.files[0], json.dumps(found, indent=1, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
