"""Which plugins there are, and which of them may be loaded: read from metadata, nothing is imported.

Two sources: entry points of the group ``anydiff`` in installed distributions, and single files ``*.py`` in the folders
of ``ANYDIFF_PLUGINS_DIR``. ``ANYDIFF_PLUGINS=a,b`` limits loading to these names, an empty value to none.
The range of core versions that a plugin works with is its own requirement on ``anydiff`` (``Requires-Dist``).
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from anydiff.plugins import state

GROUP = "anydiff"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_RESERVED = {"anydiff", "core"}

ENABLED, DISABLED, EXCLUDED, QUARANTINED, REFUSED = "enabled", "disabled", "excluded", "quarantined", "refused"


@dataclass(frozen=True)
class Plugin:
    """One plugin as its metadata tells it.

    Attributes:
        name: the entry point's name, or the file's without ``.py``.
        distribution: the distribution it comes from; ``""`` for a single file.
        version: of the distribution; of a single file the time of its last change.
        source: the entry point's value (``"anydiff_images"``), or the path of the file.
        requires: the range of anydiff versions it asks for, such as ``"<0.2,>=0.1"``; ``""`` if it states none.
        status: ``enabled``; or not loaded because ``disabled`` by the user, ``excluded`` by ``ANYDIFF_PLUGINS``,
            ``quarantined`` after a crash, ``refused`` because its metadata break a rule.
        problem: one sentence with the fix when it is not to be loaded, else ``""``.
        sound: False where its metadata break a rule, also when it is switched off besides; ``problem`` says which.
    """

    name: str
    distribution: str
    version: str
    source: str
    requires: str = ""
    status: str = ENABLED
    problem: str = ""
    sound: bool = True

    @property
    def label(self) -> str:
        """Return how sentences call it: ``plugin 'images' (anydiff-images 0.1.0)``."""
        origin = f"{self.distribution} {self.version}" if self.distribution else self.source
        return f"plugin {self.name!r} ({origin})"


@dataclass(frozen=True)
class Discovery:
    """Every plugin found, sorted by name, and sentences about the settings themselves."""

    plugins: list[Plugin] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def core_version() -> str:
    """Return the version of the installed core, or ``""`` when it runs from a source tree without metadata."""
    try:
        return metadata.version("anydiff")
    except metadata.PackageNotFoundError:
        return ""


def discover() -> Discovery:
    """Find every plugin and decide, from metadata and settings alone, which may be loaded."""
    notes: list[str] = []
    found = [*_from_distributions(notes), *_from_folders(notes)]
    found = [_check_name(plugin, found) for plugin in found]
    selected = os.environ.get("ANYDIFF_PLUGINS")
    if selected is not None:
        names = {name.strip() for name in selected.split(",") if name.strip()}
        found = [_exclude(plugin, names) for plugin in found]
        notes += [_unknown_selection(name, found) for name in sorted(names - {plugin.name for plugin in found})]
    off = state.disabled()
    found = [_check_state(plugin, off) for plugin in found]
    return Discovery(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)), notes)


def fingerprint(plugin: Plugin) -> str:
    """A text that changes whenever the plugin's own Python files do, or their place; imports and reads none of them."""
    digest = hashlib.sha256()
    for path in _files(plugin):
        with contextlib.suppress(OSError):  # gone since it was listed
            facts = path.stat()
            digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _files(plugin: Plugin) -> list[Path]:
    if not plugin.distribution:
        return [Path(plugin.source)]
    top = plugin.source.partition(":")[0].strip().partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):  # no such module: the loader says so
        return []
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    return sorted(path for folder in folders for path in folder.rglob("*.py")) or [Path(spec.origin or "")]


# Sources ------------------------------------------------------------------------------------------------------------


def _from_distributions(notes: list[str]) -> Iterator[Plugin]:
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt")
            if not text or f"[{GROUP}]" not in text:
                continue
            name = distribution.metadata["Name"] or "?"
            canonical = re.sub(r"[-_.]+", "-", name).lower()
            if canonical in seen:  # one distribution found twice on sys.path: Python imports the first
                continue
            seen.add(canonical)
            points = [point for point in distribution.entry_points if point.group == GROUP]
            version, requirements = distribution.version or "?", distribution.requires or []
        except Exception as error:  # damaged metadata of one distribution, of whatever kind, must not hide the others
            notes.append(
                f"the metadata of {_place(distribution)} cannot be read ({type(error).__name__}: {error}); "
                "reinstall that package."
            )
            continue
        for point in points:
            yield _check_range(Plugin(point.name, name, version, point.value), requirements)


def _place(distribution: metadata.Distribution) -> str:
    return repr(str(getattr(distribution, "_path", "an installed package")))


def _from_folders(notes: list[str]) -> Iterator[Plugin]:
    for part in filter(None, os.environ.get("ANYDIFF_PLUGINS_DIR", "").split(os.pathsep)):
        try:
            files = sorted(path for path in Path(part).iterdir() if path.suffix == ".py" and path.is_file())
            files = [path for path in files if path.name[0] not in "_."]
        except OSError as error:
            notes.append(f"the plugin folder {part!r} cannot be read ({error.strerror}); correct ANYDIFF_PLUGINS_DIR.")
            continue
        for path in files:
            # The time of the last change stands for the version: an edited file gets a new chance.
            changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
            yield Plugin(path.stem, "", changed, str(path.resolve()))


# Rules --------------------------------------------------------------------------------------------------------------


def _check_range(plugin: Plugin, requirements: Iterable[str]) -> Plugin:
    from packaging.requirements import InvalidRequirement, Requirement

    specifiers = []
    for text in requirements:
        if not text.lower().startswith("anydiff") or re.match(r"anydiff[-_.]*[a-z0-9]", text.lower()):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            problem = (
                f"{plugin.label} states an unreadable requirement {text!r}; ask its authors, or `pip uninstall` it."
            )
            return replace(plugin, status=REFUSED, problem=problem, sound=False)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            specifiers.append(requirement.specifier)
    asked = ",".join(str(specifier) for specifier in specifiers if str(specifier))
    plugin = replace(plugin, requires=asked)
    version = core_version() if asked else ""
    if version and not all(specifier.contains(version, prereleases=True) for specifier in specifiers):
        problem = (
            f"{plugin.label} needs anydiff {asked}, but this is anydiff {version}; "
            f"run `pip install --upgrade anydiff {plugin.distribution}`, or `anydiff plugins disable {plugin.name}`."
        )
        return replace(plugin, status=REFUSED, problem=problem, sound=False)
    return plugin


def _check_name(plugin: Plugin, everything: list[Plugin]) -> Plugin:
    if not _NAME.fullmatch(plugin.name) or plugin.name.lower() in _RESERVED:
        problem = (
            f"{plugin.label} has a name that is reserved or not made of letters, digits, '-' and '_'; "
            "rename its entry point or file."
        )
        return replace(plugin, status=REFUSED, problem=problem, sound=False)
    twins = [other for other in everything if other.name == plugin.name]
    if len(twins) > 1:
        origins = " and ".join(sorted(repr(twin.distribution or twin.source) for twin in twins))
        removable = max(twin.distribution for twin in twins)
        fix = f"`pip uninstall {removable}`" if removable else "remove one file"
        problem = f"plugin {plugin.name!r} is offered by {origins}, so none is loaded; keep one of them: {fix}."
        return replace(plugin, status=REFUSED, problem=problem, sound=False)
    return plugin


def _exclude(plugin: Plugin, names: set[str]) -> Plugin:
    if plugin.name in names:
        return plugin
    if not plugin.sound:  # nobody wants to hear of it now, but the doctor still knows
        return replace(plugin, status=EXCLUDED)
    problem = f"{plugin.label} is left out by ANYDIFF_PLUGINS; add its name there, or unset the variable."
    return replace(plugin, status=EXCLUDED, problem=problem)


def _unknown_selection(name: str, found: list[Plugin]) -> str:
    matches = difflib.get_close_matches(name, [plugin.name for plugin in found], n=1)
    advice = f"did you mean {matches[0]!r}?" if matches else f"run `pip install anydiff-{name}` or remove the name."
    return f"ANYDIFF_PLUGINS names {name!r}, which is not installed; {advice}"


def _check_state(plugin: Plugin, off: set[str]) -> Plugin:
    if plugin.name in off:
        if not plugin.sound:
            return replace(plugin, status=DISABLED)
        problem = f"{plugin.label} is disabled; `anydiff plugins enable {plugin.name}` turns it on."
        return replace(plugin, status=DISABLED, problem=problem)
    if plugin.status != ENABLED:
        return plugin
    problem = state.quarantined(plugin.name, plugin.version, lambda: fingerprint(plugin))
    if problem:
        return replace(plugin, status=QUARANTINED, problem=problem)
    when = state.crashed(plugin.name, plugin.version)
    if when is None:
        return plugin
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    problem = (
        f"{plugin.label} ended the interpreter when it was loaded ({day}) and is quarantined; "
        f"update it, or try it again with `anydiff plugins enable {plugin.name}`."
    )
    return replace(plugin, status=QUARANTINED, problem=problem)
