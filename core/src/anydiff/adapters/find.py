"""Which adapter knows a network (by the packages of its classes), a name or a folder; no library is imported for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anydiff.adapters.adapter import Adapter, ForeignModel
from anydiff.data.hub import hub_name, pulled_folder
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.registry import Entry, check_options, registry

OWN = "module"
"""The core's adapter: any module, by options."""
_SOURCE = re.compile(r"([A-Za-z][A-Za-z0-9._/-]+):(.+)", re.DOTALL)


def wrap(network: Any, schedule: Any = None, *, like: str | None = None, **options: Any) -> NetworkDenoiser:
    """A denoiser of another library's ``network``: every solver, guidance, inverse method and likelihood takes it.

    Args:
        network: the foreign network, or the object that holds it (a policy, a diffusion).
        schedule: what goes with it: a scheduler, a schedule, a path.
        like: name of the adapter, ``"diffusers"``; found by the packages of the two classes where it is None.
        options: of the adapter; those of :class:`anydiff.adapters.ModuleAdapter` for a network that none knows.

    Raises:
        UnknownNameError: no such adapter, or an option that it does not have.
        AnydiffError: no adapter knows the network, or it refuses it; the sentence says what to do.
    """
    entry = adapter_named(like) if like is not None else _knowing([network, schedule])
    adapter = _built(entry)
    what = f"adapter {entry.name!r}"
    check_options(adapter.wrap, what, {"network": network, "schedule": schedule, **options})
    return adapter.wrap(network, schedule, **options)


def adapter_named(name: str) -> Entry:
    """The adapter of this name, or the one whose last part it is: ``diffusers`` of ``adapters/diffusers``.

    Raises:
        UnknownNameError: there is none.
        AnydiffError: several end in it.
    """
    entries = {entry.name: entry for entry in registry().entries("adapters")}
    if name in entries:
        return entries[name]
    ending = [entry for entry in entries.values() if entry.name.rpartition("/")[2] == name]
    if len(ending) > 1:
        raise AnydiffError(
            f"{name!r} may be the adapter {' or '.join(entry.name for entry in ending)}; write the whole name."
        )
    if not ending:
        known = [each.rpartition("/")[2] for each in entries]
        hint = "" if len(known) > 1 else "The adapters of other libraries are in anydiff-adapters, which is not loaded."
        raise UnknownNameError("adapter", name, known, hint)
    return ending[0]


def foreign_source(source: str) -> tuple[str, Path] | None:
    """(adapter, folder) of a source such as ``diffusers:FOLDER``; None where it is a path or a recipe's name."""
    match = _SOURCE.fullmatch(source)
    if match is None or Path(source).exists():
        return None
    return match[1], Path(match[2])


def read_foreign(name: str, folder: Path) -> ForeignModel:
    """The model that the adapter called ``name`` reads from ``folder``, or from what was pulled under that name.

    Raises:
        UnknownNameError: no such adapter.
        AnydiffError: there is no such folder, or no model in it.
    """
    entry = adapter_named(name)
    if not folder.exists():
        if hub_name(str(folder)) is None:
            raise AnydiffError(f"{str(folder)!r} does not exist; give a folder that {name} wrote.")
        folder = pulled_folder(str(folder))
    return _built(entry).read(folder)


def _built(entry: Entry) -> Adapter:
    made = registry().build("adapters", entry.name)
    if not isinstance(made, Adapter):
        raise AnydiffError(
            f"the adapter {entry.name!r} builds a {type(made).__name__}, which is no anydiff.adapters.Adapter."
        )
    return made


def _packages(objects: Iterable[Any]) -> list[str]:
    """The top packages of the classes of ``objects``, the most derived first, those of torch and Python left out."""
    found: dict[str, None] = {}
    for each in objects:
        for kind in type(each).__mro__:
            found.setdefault(kind.__module__.partition(".")[0])
    return [name for name in found if name not in ("builtins", "torch", "abc", "typing", "collections")]


def _knowing(objects: list[Any]) -> Entry:
    entries = registry().entries("adapters")
    for package in _packages(objects):
        found = [entry for entry in entries if package in entry.metadata.get("packages", ())]
        if len(found) > 1:
            raise AnydiffError(
                f"{' and '.join(entry.name for entry in found)} both know networks of {package}; say which by like=."
            )
        if found:
            return found[0]
    return adapter_named(OWN)
