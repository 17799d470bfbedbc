"""Domains: a codec that loses nothing, files that can be read back, a picture, and conditions that are understood."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydiff.data.dataset import Dataset
from anydiff.domains import (
    Domain,
    FixesEntries,
    HasCoordinates,
    HasLabelArrays,
    HasUnits,
    LabelsSamples,
    MatchesCases,
)
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.registry import Entry
from anydiff.states import UNCONDITIONAL, ClassCondition, Conditioning
from anydiff.testing.kit import check
from anydiff.testing.points import random_states
from anydiff.testing.subject import Subject, require, skip

COUNT = 5
CLASSES = 50
"""How many classes of a condition are asked for by name."""
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


def _states(plugin: Subject, domain: Domain) -> tuple[Tensor, Conditioning, bool]:
    """Some states with their conditions, and whether they are real data (else numbers drawn within the range)."""
    for entry in plugin.of_kind("datasets"):
        if not plugin.unavailable(entry):
            dataset = plugin.dataset(entry, "train")
            if dataset.domain.name == domain.name and tuple(dataset.spec.shape) == tuple(domain.spec.shape):
                states, condition = dataset.batch(range(min(COUNT, len(dataset))))
                return states, condition, True
    return random_states(domain.spec, COUNT), UNCONDITIONAL, False


def _first(domain: Domain) -> str:
    """The ending whose files keep all; what names none is said by its own check."""
    return (*domain.suffixes, "")[0]


def _close(one: Tensor, two: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, two)
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
    dtype = domain.spec.dtype()
    require(again.dtype == dtype, f"encode gives {again.dtype}, not {dtype}.")
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
    path = plugin.scratch / f"{entry.name.replace('/', '-')}-samples{_first(domain)}"
    domain.write(objects, path)
    _require_read_back(domain, objects, path)


def _require_read_back(domain: Domain, objects: Sequence[Any], path: Path, canonical: bool = False) -> None:
    read = domain.read(path)
    require(
        len(read) == len(objects),
        f"{len(objects)} objects were written to {path.name!r}, but {len(read)} are read back.",
    )
    written, found = (domain.canonical(objects), domain.canonical(read)) if canonical else (objects, read)
    same = _close(domain.encode(written), domain.encode(found))
    how = ", not even in canonical form" if canonical else ""
    require(same, f"the objects read back from {path.name!r} are not those written{how}.")


def _require_canonical(domain: Domain, objects: Sequence[Any]) -> None:
    """A canonical form is that of one object, final, and not one for all."""
    forms = domain.canonical(objects)
    require(len(forms) == len(objects), f"canonical gives {len(forms)} objects for {len(objects)}.")
    states = domain.encode(forms)
    again = domain.encode(domain.canonical(forms))
    require(_close(states, again), "canonical of what canonical gives is something else.")
    turned = domain.encode(domain.canonical(objects[::-1])).flip(0)
    require(_close(states, turned), "canonical of an object depends on the others.")
    differ = bool((domain.encode(objects) != domain.encode(objects)[:1]).any())
    require(not differ or bool((states != states[:1]).any()), "canonical gives one form for all objects.")


@check("domain.suffixes", "domains")
def suffixes(plugin: Subject, entry: Entry) -> None:
    """It names the endings of its files, writes a file of each as what it says, and refuses any other."""
    domain = _domain(plugin, entry)
    require(bool(domain.suffixes), "it names no suffixes; say which endings write takes: suffixes = ('.csv',), say.")
    states, condition, _ = _states(plugin, domain)
    objects = domain.decode(states, condition)
    _require_canonical(domain, objects)
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
            _require_read_back(domain, written, path, canonical=True)
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


@check("domain.match", "domains", optional=True)
def match(plugin: Subject, entry: Entry) -> None:
    """Where a metric compares samples with their own cases, files name the cases, and samples of others are refused."""
    found = _paired_data(plugin, entry)
    if not found:
        skip("none of its metrics compares a sample with its own case.")
    for dataset in found:
        _require_match(plugin, dataset)


def _paired_data(plugin: Subject, entry: Entry) -> list[Dataset]:
    """Held-out data of the domain that metrics judge by cases: those of recipes, else the plugin's own."""
    known = {each.name: each.metadata for each in plugin.registry.entries("metrics")}
    paired = {name for name, about in known.items() if about.get("paired") or about.get("oracle")}
    recipes = [each for each in plugin.recipes.values() if each.domain.name == entry.name]
    names = [each.dataset.name for each in recipes if any(part.name in paired for part in each.metrics)]
    entries = [plugin.registry.get("datasets", name) for name in dict.fromkeys(names)]
    if not recipes and len(plugin.of_kind("domains")) == 1 and any(e.name in paired for e in plugin.of_kind("metrics")):
        entries = plugin.of_kind("datasets")
    built = [plugin.dataset(each, "test") for each in entries if not plugin.unavailable(each)]
    return [each for each in built if each.domain.name == entry.name]


def _require_match(plugin: Subject, dataset: Dataset) -> None:
    """Samples come back to their cases from a file, in any order of both, and not without their case."""
    domain, count = dataset.domain, min(COUNT, len(dataset))
    labels = dataset.case_labels(range(count))
    why = "so samples on disk could only be judged by their order"
    require(labels is not None, f"case_labels of {dataset.name!r} gives None, {why}; name the cases.")
    assert labels is not None
    require(len(labels) == count, f"case_labels of {dataset.name!r} gives {len(labels)} labels for {count} examples.")
    states, condition = dataset.batch(range(count))
    stood = domain.label_arrays(labels) if isinstance(domain, HasLabelArrays) else {}
    lasting = stood and all(len(each.values) == count and each.dimensions[0] == "case" for each in stood.values())
    require(
        lasting, "label_arrays gives no array with an axis 'case' of the labels, so a .zarr would not name its cases."
    )
    require(isinstance(domain, MatchesCases), f"it has no match, {why}; find the case of an object.")
    assert isinstance(domain, MatchesCases)
    objects = domain.decode(states, condition)
    if isinstance(domain, LabelsSamples):
        objects = domain.labelled(objects, labels, [0] * count)
    path = plugin.scratch / f"{dataset.name.replace('/', '-')}-match{_first(domain)}"
    domain.write([*objects[2:], *objects[:2]], path)
    read = domain.read(path)
    turned = [*range(1, count), 0]
    cases = domain.match(read, [labels[row] for row in turned])
    require(cases is not None, f"match finds no case in what write wrote of labelled samples, {why}; write the case.")
    assert cases is not None
    rows = [turned[case] for case in cases]
    require(sorted(rows) == list(range(count)), f"samples of {count} cases, read back, are matched with {cases}.")
    asked = condition.asked().rows(rows)
    same = _close(states[rows], domain.encode_asked(read, asked))
    require(same, "match pairs samples with other cases than they were labelled with, or encode_asked is not decode's.")
    try:
        wrong = domain.match(read, labels[1:])
    except AnydiffError:
        return
    require(False, f"match gives {wrong} though a sample is of none of these cases; raise an AnydiffError.")


@check("domain.picture", "domains")
def picture(plugin: Subject, entry: Entry) -> None:
    """draw writes a PNG: of samples with their titles, with none, and of samples that were asked for nothing."""
    domain = _domain(plugin, entry)
    states, condition, _ = _states(plugin, domain)
    objects = domain.decode(states, condition)
    titles = domain.describe_condition(condition)
    require(len(titles) in (0, len(objects)), f"describe_condition gives {len(titles)} titles for {len(objects)} rows.")
    nothing = domain.describe_condition(UNCONDITIONAL)
    require(len(nothing) in (0, len(objects)), f"describe_condition of nothing gives {len(nothing)} titles.")
    rounds = [(objects, None), (objects, titles or None), (domain.decode(states), nothing or None)]
    for number, (drawn, given) in enumerate(rounds):
        path = plugin.scratch / f"{entry.name.replace('/', '-')}-{number}.png"
        domain.draw(drawn, path, given)
        png = path.is_file() and path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        require(png, "draw wrote no PNG where it was told to.")


@check("domain.atomic", "domains")
def atomic(plugin: Subject, entry: Entry) -> None:
    """What stands at a path is replaced, never written into: whoever has it open, or a full disk, keeps the old."""
    domain = _domain(plugin, entry)
    states, condition, _ = _states(plugin, domain)
    objects = domain.decode(states, condition)
    for suffix in domain.suffixes:
        path = plugin.scratch / f"{entry.name.replace('/', '-')}-replaced{suffix}"
        _write_all_or_one(domain, objects, path)
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        # A second name of the same file shows whether its bytes were written over.
        twins = {file: plugin.scratch / f"twin-{number}" for number, file in enumerate(files)}
        before = {file: file.read_bytes() for file in files}
        for file, twin in twins.items():
            twin.unlink(missing_ok=True)
            try:
                os.link(file, twin)
            except OSError:
                skip("this file system has no hard links.")
        with contextlib.suppress(AnydiffError):  # to refuse what exists is fine, too
            _write_all_or_one(domain, objects[::-1], path)
        over = [file.name for file, twin in twins.items() if twin.read_bytes() != before[file]]
        require(not over, f"{over[:1]} is written over in place; write inside anydiff.files.atomic_path(path).")


@check("domain.sample-mask", "domains", optional=True)
def sample_mask(plugin: Subject, entry: Entry) -> None:
    """Which nodes a sample has depends on the seed and its own number alone, and on both."""
    domain = _domain(plugin, entry)
    if not domain.spec.masked:
        skip("its states have no masked leaves.")
    rows = 64
    masks = domain.sample_mask(range(rows), 5)
    wanted = (rows, domain.spec.nodes)
    right = tuple(masks.shape) == wanted and masks.dtype == torch.bool
    require(right, f"sample_mask gives {tuple(masks.shape)} {masks.dtype}, not {wanted} torch.bool.")
    require(torch.equal(masks, domain.sample_mask(range(rows), 5)), "asked twice, sample_mask gives other masks.")
    for order in ([7, 3, 60, 3], [9], [50, 2], [1, 40, 33], range(1, rows)):
        moved = domain.sample_mask(order, 5)
        same = torch.equal(moved, masks[list(order)])
        require(same, "the mask of a sample depends on its batch: on its place, the others or their number.")
    varies = bool((masks != masks[:1]).any())
    same = torch.equal(masks, domain.sample_mask(range(rows), 6))
    require(not varies or not same, "samples differ in size, but every seed gives the same sizes: use the seed.")


@check("domain.protocols", "domains")
def protocols(plugin: Subject, entry: Entry) -> None:
    """Entries that conditions fix are entries of the states; coordinates stand along axes of the arrays; values in the
    field's units are differentiable, row by row."""
    domain = _domain(plugin, entry)
    states, condition, _ = _states(plugin, domain)
    if isinstance(domain, FixesEntries):
        nothing = domain.known_entries(UNCONDITIONAL)
        require(nothing is None, "known_entries fixes something, though nothing is asked for.")
        for each in domain.known_entries(condition) or ():
            found, wanted = tuple(each.shape), (len(states), *domain.spec.shape)
            require(found == wanted, f"known_entries gives {found} for states of {wanted}.")
    if isinstance(domain, HasUnits):
        _units(domain, states, condition)
    if isinstance(domain, HasCoordinates):
        lengths: dict[str, int] = {}
        for array in domain.arrays(states, condition).values():
            lengths |= dict(zip(array.dimensions, array.values.shape[1:], strict=True))
        for name, place in domain.coordinates().items():
            require(len(place.dimensions) == place.values.ndim, f"the coordinate {name!r} does not name its axes.")
            for axis, length in zip(place.dimensions, place.values.shape, strict=True):
                fits = lengths.get(axis, length) == length
                require(
                    fits, f"the coordinate {name!r} has {length} values along {axis!r}, arrays {lengths.get(axis)}."
                )


def _units(domain: HasUnits, states: Tensor, condition: Conditioning) -> None:
    leaf = states.clone().requires_grad_()
    values = domain.in_units(leaf, condition)
    rows = values.shape[:1] == states.shape[:1] and bool(values.isfinite().all())
    require(rows, f"in_units gives {tuple(values.shape)} for {len(states)} states, or values that are not finite.")
    require(values.requires_grad, "in_units is not differentiable: it leaves torch, detaches or rounds.")
    (gradient,) = torch.autograd.grad(values[0].sum(), leaf)
    require(gradient[0].any(), "in_units is flat: no value depends on the state.")
    require(not gradient[1:].any(), "in_units of one state depends on the other states of the batch.")


@check("domain.conditions", "domains")
def conditions(plugin: Subject, entry: Entry) -> None:
    """parse_condition takes no text for none, refuses what it does not know, and describes what was asked for."""
    domain = _domain(plugin, entry)
    require(domain.parse_condition({}, 3) == {}, "parse_condition({}, 3) must give {}: no condition was asked for.")
    wrong = [("no_such_condition", "1"), *((name, "no such value ?!") for name in domain.conditions)]
    for name, text in wrong:
        try:
            domain.parse_condition({name: text}, 3)
        except AnydiffError as error:
            if isinstance(error, UnknownNameError) and isinstance(domain.conditions.get(name), ClassCondition):
                _come_back(domain, name, error.known)
            continue
        require(False, f"parse_condition takes {name}={text!r}; raise an anydiff.errors error that lists what exists.")
    for name, kind in domain.conditions.items():
        if isinstance(kind, ClassCondition):
            _all_classes(domain, name, kind.classes)


def _come_back(domain: Domain, name: str, texts: Sequence[str]) -> None:
    """Each class that the domain knows, asked for by its text, is described by that text and by no other's."""
    seen: dict[str, str] = {}
    for text in texts[:CLASSES]:
        (title,) = set(domain.describe_condition(Conditioning(domain.parse_condition({name: text}, 3)))) or {""}
        require(text.lower() in title.lower(), f"{name}={text} was asked for, but is described as {title!r}.")
        require(title not in seen, f"{name}={text} and {name}={seen.get(title)} are both described as {title!r}.")
        seen[title] = text


def _all_classes(domain: Domain, name: str, classes: int) -> None:
    """A class as text is the class that it describes, for every class whose description is such a text."""
    numbers = torch.arange(min(classes, CLASSES))
    titles = domain.describe_condition(Conditioning({name: numbers}))
    require(len(titles) in (0, len(numbers)), f"describe_condition gives {len(titles)} titles for {len(numbers)} rows.")
    require(len(set(titles)) == len(titles), f"two classes of {name!r} are described alike: {sorted(titles)[:3]}.")
    for number, title in enumerate(titles):
        try:
            parsed = domain.parse_condition({name: title}, 2)[name]
        except AnydiffError:  # a title may say more than the text that asks for it
            continue
        require(
            not parsed.is_floating_point() and parsed.tolist() == [number] * 2,
            f"class {number} of {name!r} is described as {title!r}, but {name}={title} asks for {parsed.tolist()[0]}.",
        )
