"""Which code a number depends on: one digest of all files of a distribution, and the versions of its libraries.

A plugin may look up anything by name and read any file beside its modules, so nothing is guessed from imports: every
file of source and data of a distribution counts, byte by byte. So does every plugin that it requires, imports, or
names in quotes (an operation in a solver). What does not count are caches (``__pycache__``,
``*.pyc``), hidden folders, temporary files, and of the core the rooms in :data:`WITHOUT_INFLUENCE`.

A distribution is what pip installs. A plugin that is a single file is its file with what lies in its folder, other
plugins left out, since it reads its data from there. Files are hashed once and again when their size or times change,
so that asking for ten thousand cells costs nothing.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from anydiff.errors import AnydiffError
from anydiff.plugins.discovery import Plugin
from anydiff.plugins.loader import LOADED, loaded
from anydiff.plugins.mentions import speaks_of, words
from anydiff.registry import CORE, Entry, registry

WITHOUT_INFLUENCE = ("cli", "testing", "templates")
"""Rooms of the core that nothing outside of them imports (a test reads the imports), so no number passes through."""
LARGEST_FOLDER = 10_000
"""Files in the folder of a single-file plugin; with more it is no folder of a plugin."""
_ALWAYS = ("torch", "numpy")
_CACHES = re.compile(r"__pycache__|\..*")
_PASSING = re.compile(r".*\.(pyc|pyo|part|swp|tmp)|.*~|\.DS_Store|\.nfs.*")
_OUR_OUTPUT = ("results.sqlite", "model.safetensors", "state.pt", "zarr.json")
"""A folder that holds one of these is a report, a run or a sample set, which anydiff wrote itself."""
_RACY_SECONDS = 2.0


@dataclass(frozen=True)
class Source:
    """What a number depends on beside its own settings.

    Attributes:
        code: distribution (or file of a plugin) -> sha256 (hex) of all its files.
        libraries: name -> installed version, of torch, numpy and whatever these distributions declare.
    """

    code: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: Source) -> Source:
        """Both together."""
        return Source({**self.code, **other.code}, {**self.libraries, **other.libraries})

    def as_dict(self) -> dict[str, dict[str, str]]:
        """As plain data, sorted."""
        return {"code": dict(sorted(self.code.items())), "libraries": dict(sorted(self.libraries.items()))}


def source_of(
    entries: Iterable[Entry] = (),
    references: Iterable[str] = (),
    plugins: Iterable[str] = (),
    core: bool = True,
    without: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Source:
    """The code and libraries behind registered things, ``"module:attribute"`` references and plugins by name.

    Args:
        entries: each counts with the package it lives in and the plugin that registered it.
        references: each counts with its package.
        plugins: names of loaded plugins, whatever they implement.
        core: whether the core counts beside them, as it does for every number.
        without: package -> folders and files of it, by their paths below it, through which no number passes.

    Raises:
        AnydiffError: the files of one cannot be found or read.
    """
    entries = list(entries)
    names = [*plugins, *(entry.plugin for entry in entries)]
    found = [_of_plugin(name) for name in names if name != CORE]
    found += [_of_reference(text) for text in (*references, *(entry.reference for entry in entries))]
    without = {**without, CORE: WITHOUT_INFLUENCE}
    named = _with_mentioned({origin for origin in found if origin != _CORE}, without)
    origins = _merged([*named, *([_CORE] if core else [])])
    code = {origin.name: _digest(origin, without) for origin in origins}
    libraries: dict[str, str] = {}
    for name in (*_ALWAYS, *(text for origin in origins for text in _declared(origin))):
        version = _version(name)
        if version:
            libraries[name] = version
    return Source(code, libraries)


def transforming_code(hook: str) -> dict[str, str]:
    """The digest of every distribution that implements ``hook`` in this process; empty where nobody does."""
    return dict(source_of(plugins=loaded().hooks.implementers(hook), core=False).code)


# Where things come from -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Origin:
    """A distribution (its name and modules of it), or a module without one.

    Attributes:
        name: for people.
        distribution: name of the installed distribution; empty without one.
        modules: dotted names of modules that are known to belong to it.
        file: of a single-file plugin.
    """

    name: str
    distribution: str = ""
    modules: tuple[str, ...] = ()
    file: str = ""


_CORE = _Origin(CORE, CORE, (CORE,))


def _merged(origins: Iterable[_Origin]) -> list[_Origin]:
    """One origin per distribution, with every module that is known to be of it."""
    modules: dict[_Origin, set[str]] = {}
    for origin in origins:
        modules.setdefault(replace(origin, modules=()), set()).update(origin.modules)
    for record in loaded().plugins:
        origin = _of_record(record)
        if replace(origin, modules=()) in modules:
            modules[replace(origin, modules=())].update(origin.modules)
    found = [replace(origin, modules=tuple(sorted(names))) for origin, names in modules.items()]
    return sorted(found, key=lambda origin: origin.name)


def _with_mentioned(origins: set[_Origin], without: Mapping[str, Sequence[str]]) -> set[_Origin]:
    """``origins``, and those of all plugins that their code requires, imports or names, and that these do."""
    others = [(_of_record(record), record) for record in loaded().plugins if record.status == LOADED]
    found, fresh = set(origins), set(origins)
    while fresh:
        said = words(path for origin in _merged(fresh) for path in _files(origin, without).values())
        required = {name for origin in fresh for name in _declared(origin)}
        fresh = {
            origin
            for origin, record in others
            if origin not in found
            and (origin.distribution in required or speaks_of(said, record, registry().of_plugin(record.name)))
        }
        found |= fresh
    return found


def _of_plugin(name: str) -> _Origin:
    record = next((each for each in loaded().plugins if each.name == name), None)
    if record is not None:
        return _of_record(record)
    # Registered by a program itself, as in a notebook or a test.
    plugin = loaded().hooks.plugin(name)
    module = plugin.__name__ if inspect.ismodule(plugin) else type(plugin).__module__
    return _of_reference(module)


def _of_record(record: Plugin) -> _Origin:
    if not record.distribution:
        return _Origin(Path(record.source).name, file=record.source)
    canonical = re.sub(r"[-_.]+", "-", record.distribution).lower()
    return _Origin(canonical, canonical, (record.source.partition(":")[0].strip(),))


def _of_reference(reference: str) -> _Origin:
    module = reference.partition(":")[0].strip()
    top = module.partition(".")[0]
    if top == CORE:
        return _CORE
    for record in loaded().plugins:
        own = Path(record.source).stem if not record.distribution else record.source.partition(":")[0].split(".")[0]
        if own == top and not (record.distribution and _is_namespace(top)):
            return _of_record(record)
    names = [] if _is_namespace(top) else metadata.packages_distributions().get(top, [])
    if names:
        canonical = re.sub(r"[-_.]+", "-", names[0]).lower()
        return _Origin(canonical, canonical, (top,))
    return _Origin(module if _is_namespace(top) else top, modules=(module,))


def _is_namespace(top: str) -> bool:
    return not _is_loaded_file(top) and _specification(top)[0] is None


def _is_loaded_file(name: str) -> bool:
    return getattr(sys.modules.get(name), "__file__", None) is not None


# Files ----------------------------------------------------------------------------------------------------------------


def _digest(origin: _Origin, without: Mapping[str, Sequence[str]]) -> str:
    found = hashlib.sha256()
    for name, path in sorted(_files(origin, without).items()):
        found.update(f"{name}\0{_hash(path)}\n".encode())
    return found.hexdigest()


def _files(origin: _Origin, without: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """Every file that counts, by its name relative to where it is installed."""
    if origin.file:
        return _beside(Path(origin.file))
    roots = {_root(module) for module in origin.modules}
    if origin.distribution:
        roots |= set(_installed(origin.distribution))
    found: dict[str, Path] = {}
    for root in roots:
        if root.is_dir():
            skipped = [root / name for name in without.get(root.name, ())]
            found.update({f"{root.name}/{path.relative_to(root).as_posix()}": path for path in _walk(root, skipped)})
        else:
            found[root.name] = root
    return found


def _root(module: str) -> Path:
    """The folder of the outermost package with an ``__init__.py`` that holds ``module``, or its single file."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        origin, package = _specification(".".join(parts[:count]))
        if origin is not None:
            return origin.parent if package else origin
    raise AnydiffError(
        f"the files of module {module!r} cannot be found, so it cannot be said which code a number comes from; put it "
        "into a file or a package that Python can import."
    )


def _specification(name: str) -> tuple[Path | None, bool]:
    """(file, whether a package) of a module; nothing of it is imported but the packages it is in."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file:
        return Path(file), hasattr(module, "__path__")
    try:
        specification = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None, False
    if specification is None or not specification.has_location or specification.origin is None:
        return None, False
    return Path(specification.origin), specification.submodule_search_locations is not None


def _installed(distribution: str) -> Iterator[Path]:
    """Packages and single files that a distribution brings, by its own record; of an editable one, its source."""
    try:
        files = metadata.distribution(distribution).files or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        path = Path(str(file.locate()))
        if file.suffix == ".pth":
            yield from _editable(path)
        elif not _ignored(file.parts):
            outermost = path
            for parent in list(path.parents)[: len(file.parts) - 1]:
                if (parent / "__init__.py").is_file():
                    outermost = parent
            if outermost.exists():
                yield outermost


def _ignored(parts: tuple[str, ...]) -> bool:
    first = parts[0]
    scripts = first == ".." and any(part in ("bin", "Scripts") for part in parts)
    return scripts or first.endswith((".dist-info", ".egg-info")) or any(map(_CACHES.fullmatch, _inner(parts)))


def _inner(parts: tuple[str, ...]) -> list[str]:
    return [part for part in parts if part != ".."]


def _editable(path: Path) -> Iterator[Path]:
    """The packages in the folders that a ``.pth`` file names."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        folder = Path(line.strip())
        if line.strip() and not line.startswith("import") and folder.is_dir():
            yield from (inner.parent for inner in folder.glob("*/__init__.py") if inner.parent.name != "tests")


def _beside(file: Path) -> dict[str, Path]:
    """A single-file plugin and what lies in its folder, other plugins and what anydiff wrote left out.

    Raises:
        AnydiffError: there are so many files that the folder is no plugin's own.
    """
    found = {file.name: file}
    for path in _walk(file.parent, []):
        plugin = path.parent == file.parent and path.suffix == ".py" and path.name[0] not in "_."
        if not plugin:
            found[path.relative_to(file.parent).as_posix()] = path
        if len(found) > LARGEST_FOLDER:
            raise AnydiffError(
                f"the folder {str(file.parent)!r} of the plugin {file.name!r} holds more than {LARGEST_FOLDER} files, "
                "all of which its numbers could depend on; give the plugin a folder of its own."
            )
    return found


def _walk(root: Path, skipped: list[Path]) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        here = Path(folder)
        status = here.stat()
        ours = here != root and any(name in names for name in _OUR_OUTPUT)
        if (status.st_dev, status.st_ino) in seen or here in skipped or (ours and not (here / "__init__.py").exists()):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not _CACHES.fullmatch(name))
        for name in sorted(names):
            path = here / name
            if not _PASSING.fullmatch(name) and path not in skipped and path.is_file():
                yield path


_known: dict[Path, tuple[tuple[int, ...], str]] = {}


def _hash(path: Path) -> str:
    """sha256 (hex) of a file's bytes; remembered until its size or one of its times changes."""
    try:
        status = path.stat()
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = _known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AnydiffError(
            f"cannot read {str(path)!r}, which is part of a plugin: {error.strerror}; check its permissions."
        ) from error
    # A file that changed just now may change again within one tick of its clock.
    if time.time() - max(status.st_mtime, status.st_ctime) > _RACY_SECONDS:
        _known[path] = (stamp, found)
    return found


# Libraries ------------------------------------------------------------------------------------------------------------


def _declared(origin: _Origin) -> list[str]:
    """The names of the libraries that a distribution says it needs or can use."""
    try:
        texts = metadata.requires(origin.distribution) if origin.distribution else None
    except metadata.PackageNotFoundError:
        texts = None
    names = [re.match(r"[A-Za-z0-9._-]+", text) for text in texts or []]
    found = [re.sub(r"[-_.]+", "-", name.group()).lower() for name in names if name]
    return [name for name in found if name != CORE]


@functools.cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
