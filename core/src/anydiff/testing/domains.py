"""Domains: a codec that loses nothing, files that can be read back, a picture, and conditions that are understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.pipeline import Domain
from anydiff.registry import Entry
from anydiff.states import NoiseSource
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

COUNT = 5
CONTAINERS = {
    ".png": (b"\x89PNG",),
    ".npz": (b"PK",),
    ".zip": (b"PK",),
    ".gz": (b"\x1f\x8b",),
    ".parquet": (b"PAR1",),
    ".h5": (b"\x89HDF",),
    ".hdf5": (b"\x89HDF",),
    ".nc": (b"\x89HDF", b"CDF"),
    ".json": (b"{", b"["),
    ".jsonl": (b"{", b"["),
    ".graphml": (b"<",),
}
"""How files of well-known endings begin."""


def _domain(plugin: Subject, entry: Entry) -> Domain:
    built: Domain = plugin.build(entry)
    return built


def _states(plugin: Subject, domain: Domain) -> tuple[Tensor, Mapping[str, Tensor], bool]:
    """Some states with their conditions, and whether they are real data (else numbers drawn within the range)."""
    for entry in plugin.of_kind("datasets"):
        if not plugin.unavailable(entry):
            dataset = plugin.dataset(entry, "train")
            if dataset.domain.name == domain.name and tuple(dataset.spec.shape) == tuple(domain.spec.shape):
                states, condition = dataset.batch(range(min(COUNT, len(dataset))))
                return states, condition, True
    drawn = NoiseSource(domain.spec, 0).draw(range(COUNT), 0, torch.float32)
    return drawn.clamp(-1, 1), {}, False


def _close(one: Tensor, two: Tensor) -> bool:
    scale = float(one.abs().max()) or 1.0
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-4 * scale)


@check("domain.codec", "domains")
def codec(plugin: Subject, entry: Entry) -> None:
    """encode and decode are inverse; states are float32 of the spec's shape and are left as they were."""
    domain = _domain(plugin, entry)
    states, condition, real = _states(plugin, domain)
    kept = states.clone()
    objects = domain.decode(states, condition)
    require(torch.equal(states, kept), "decode changes the states it is given.")
    require(len(objects) == len(states), f"decode makes {len(objects)} objects of {len(states)} states.")
    again = domain.encode(objects)
    require(again.dtype == torch.float32, f"encode gives {again.dtype}, not torch.float32.")
    wanted = (len(states), *domain.spec.shape)
    require(tuple(again.shape) == wanted, f"encode gives shape {tuple(again.shape)}, not {wanted}.")
    # Numbers that are no data may be rounded once, to what the field's objects can hold.
    before = states if real else domain.encode(domain.decode(again, condition))
    require(_close(before, again), "decode, then encode, does not give the states back.")


@check("domain.files", "domains")
def files(plugin: Subject, entry: Entry) -> None:
    """What it writes it can read: the same objects, in the same order."""
    domain = _domain(plugin, entry)
    states, condition, _ = _states(plugin, domain)
    objects = domain.decode(states, condition)
    path = plugin.scratch / f"{entry.name.replace('/', '-')}-samples{(*domain.suffixes, '')[0]}"
    domain.write(objects, path)
    _require_read_back(domain, objects, path)


def _require_read_back(domain: Domain, objects: Sequence[Any], path: Path) -> None:
    read = domain.read(path)
    require(
        len(read) == len(objects),
        f"{len(objects)} objects were written to {path.name!r}, but {len(read)} are read back.",
    )
    same = _close(domain.encode(objects), domain.encode(read))
    require(same, f"the objects read back from {path.name!r} are not those written.")


@check("domain.suffixes", "domains", optional=True)
def suffixes(plugin: Subject, entry: Entry) -> None:
    """It writes a file of each ending it names, as what the ending says, and refuses any other."""
    domain = _domain(plugin, entry)
    if not domain.suffixes:
        skip("it names no suffixes.")
    states, condition, _ = _states(plugin, domain)
    objects = domain.decode(states, condition)
    stem = plugin.scratch / f"{entry.name.replace('/', '-')}-ending"
    for suffix in domain.suffixes:
        path = stem.with_name(stem.name + suffix)
        written = _write_all_or_one(domain, objects, path)
        require(path.is_dir() or suffix, f"no folder was written, but a file without an ending ({path.name!r}).")
        begins = next((starts for ending, starts in CONTAINERS.items() if suffix.endswith(ending)), ())
        if begins and path.is_file():
            start = path.read_bytes()[:8].lstrip()
            require(start.startswith(begins), f"what was written to {path.name!r} begins with {start!r}.")
        if suffix != domain.suffixes[0]:  # of which domain.files speaks
            _require_read_back(domain, written, path)
    for wrong in [".no-such-ending", *([] if "" in domain.suffixes else [""])]:
        path = stem.with_name(f"{stem.name}-wrong{wrong}")
        try:
            domain.write(objects, path)
        except AnydiffError:
            require(not path.exists(), f"write refuses {path.name!r}, but leaves something there.")
            continue
        require(False, f"write takes {path.name!r}; refuse it by anydiff.files.check_suffix(path, self.suffixes, ...).")


def _write_all_or_one(domain: Domain, objects: Sequence[Any], path: Path) -> Sequence[Any]:
    """What was written: all objects, or the first where a file of this kind holds one."""
    try:
        domain.write(objects, path)
    except AnydiffError:
        domain.write(objects[:1], path)
        return objects[:1]
    return objects


@check("domain.picture", "domains")
def picture(plugin: Subject, entry: Entry) -> None:
    """draw writes a PNG: of samples with their titles, with none, and of samples that were asked for nothing."""
    domain = _domain(plugin, entry)
    states, condition, _ = _states(plugin, domain)
    objects = domain.decode(states, condition)
    titles = domain.describe_condition(condition)
    require(len(titles) in (0, len(objects)), f"describe_condition gives {len(titles)} titles for {len(objects)} rows.")
    nothing = domain.describe_condition({})
    require(len(nothing) in (0, len(objects)), f"describe_condition({{}}) gives {len(nothing)} titles.")
    rounds = [(objects, None), (objects, titles or None), (domain.decode(states), nothing or None)]
    for number, (drawn, given) in enumerate(rounds):
        path = plugin.scratch / f"{entry.name.replace('/', '-')}-{number}.png"
        domain.draw(drawn, path, given)
        png = path.is_file() and path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        require(png, "draw wrote no PNG where it was told to.")


@check("domain.conditions", "domains")
def conditions(plugin: Subject, entry: Entry) -> None:
    """parse_condition takes no text for no condition and refuses what it does not know with one sentence."""
    domain = _domain(plugin, entry)
    require(domain.parse_condition({}, 3) == {}, "parse_condition({}, 3) must give {}: no condition was asked for.")
    wrong = [("no_such_condition", "1"), *((name, "no such value ?!") for name in domain.conditions)]
    for name, text in wrong:
        try:
            domain.parse_condition({name: text}, 3)
        except AnydiffError:
            continue
        require(False, f"parse_condition takes {name}={text!r}; raise an anydiff.errors error that lists what exists.")
