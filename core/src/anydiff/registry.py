"""The registry: everything that has a name (solvers, networks, recipes, ...), as lazy references.

Listing imports nothing heavy: an entry is a name, a line of help, plain metadata and ``"package.module:attribute"``,
which is imported on first use. The core's own entries come from :mod:`anydiff.builtin` through the same hooks as any
plugin's. A plugin's entries enter together or not at all (:meth:`Registry.add`); order never decides who gets a name.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anydiff.errors import AnydiffError, PluginError, UnknownNameError
from anydiff.plugins.report import report

__all__ = ["KINDS", "Entry", "Registry", "registry"]

KINDS = (
    "domains",
    "datasets",
    "networks",
    "paths",
    "solvers",
    "operations",
    "samplers",
    "guidance",
    "operators",
    "inverse_methods",
    "edits",
    "calibrations",
    "objectives",
    "training_methods",
    "metrics",
    "recipes",
    "tasks",
    "adapters",
    "commands",
)
CORE = "anydiff"
"""The plugin name under which the core's own entries stand."""

RENAMED = {("solvers", "default"): "by-budget", ("objectives", "molecules/cross-entropy"): "cross-entropy"}
"""Names of the core that were others before: (kind, old name) -> the name now. Stored recipes hold the old names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_TASK = re.compile(rf"({_NAME.pattern})@[1-9][0-9]*")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def missing_module_advice(module: str) -> str:
    """Return what to do about a module that is not there: its package is absent, damaged or too old."""
    package, _, inner = module.partition(".")
    return f"update or reinstall {package!r}" if inner else f"install the package that provides {module!r}"


def singular(kind: str) -> str:
    """Return the word for one thing of a kind: ``"solvers"`` -> ``"solver"``."""
    return {
        "guidance": "guidance",
        "datasets": "data set",
        "training_methods": "training method",
        "inverse_methods": "inverse method",
        "edits": "method of editing",
        "calibrations": "method of calibration",
    }.get(kind, kind.removesuffix("s"))


@dataclass(frozen=True)
class Entry:
    """One named thing: its kind, name, help, lazy reference, the plugin it comes from and plain metadata."""

    kind: str
    name: str
    help: str
    reference: str
    plugin: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the module of the reference and return the attribute.

        Raises:
            PluginError: the module cannot be imported or has no such attribute.
        """
        module_name, _, attribute = self.reference.partition(":")
        try:
            value: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                value = getattr(value, part)
        except (KeyboardInterrupt, MemoryError, AnydiffError):
            raise
        except BaseException as error:  # a plugin's module may raise anything at import, SystemExit included
            raise PluginError(self._cannot_load(error)) from error
        return value

    def _cannot_load(self, error: BaseException) -> str:
        fix = "reinstall anydiff." if self.plugin == CORE else f"run `anydiff plugins doctor {self.plugin}`."
        if isinstance(error, ModuleNotFoundError) and error.name:
            fix = f"{missing_module_advice(error.name)}, or {fix}"
        owner = "the core" if self.plugin == CORE else f"plugin {self.plugin!r}"
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        return (
            f"{singular(self.kind)} {self.name!r} of {owner} cannot be loaded from {self.reference!r} ({reason}); {fix}"
        )


class Registry:
    """All entries by kind and name; see the module's text for the rules.

    ``explain`` maps the name of a plugin that was not loaded to the sentence that says why, for error messages.
    """

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self.explain: dict[str, str] = {}

    def add(self, plugin: str, entries: Iterable[Entry]) -> None:
        """Add all ``entries`` of ``plugin``, or none of them.

        Raises:
            PluginError: a name is malformed, outside the plugin's namespace, or taken.
        """
        staged: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            self._check(plugin, entry)
            key = (entry.kind, entry.name)
            if key in staged:
                raise PluginError(f"{singular(entry.kind)} {entry.name!r} is registered twice; keep one of the two.")
            staged[key] = entry
        for (kind, name), entry in staged.items():
            self._entries[kind][name] = entry

    def remove(self, plugin: str) -> None:
        """Remove every entry of ``plugin``."""
        for kind, entries in self._entries.items():
            self._entries[kind] = {name: entry for name, entry in entries.items() if entry.plugin != plugin}

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind in the order of the core's list, then by plugin name."""
        return list(self._of_kind(kind))

    def entries(self, kind: str) -> list[Entry]:
        """Return the entries of a kind, in the order of :meth:`names`."""
        return list(self._of_kind(kind).values())

    def of_plugin(self, plugin: str) -> list[Entry]:
        """Return every entry of ``plugin``."""
        return [entry for kind in KINDS for entry in self._entries[kind].values() if entry.plugin == plugin]

    def get(self, kind: str, name: str) -> Entry:
        """Return the entry called ``name``.

        Raises:
            UnknownNameError: nothing has this name; the sentence suggests the nearest, and says whether a plugin that
                was not loaded may be the reason.
        """
        entries = self._of_kind(kind)
        if name not in entries and (kind, name) in RENAMED:
            report(f"{singular(kind)} {name!r} is called {RENAMED[kind, name]!r} now; write that.")
            name = RENAMED[kind, name]
        if name in entries:
            return entries[name]
        raise UnknownNameError(singular(kind), name, entries, self._hint(name))

    def load(self, kind: str, name: str) -> Any:
        """Import and return what ``name`` refers to."""
        return self.get(kind, name).load()

    def build(self, kind: str, name: str, /, **options: Any) -> Any:
        """Load ``name`` and call it with ``options``, whose names are first checked against its signature.

        Raises:
            UnknownNameError: no such name, or an option that it does not have.
            AnydiffError: an option without default is missing.
            PluginError: a plugin's cannot be made; the sentence names it.
        """
        entry = self.get(kind, name)
        target = entry.load()
        check_options(target, f"{singular(kind)} {name!r}", options)
        try:
            return target(**options)
        except (KeyboardInterrupt, MemoryError, AnydiffError):
            raise
        except BaseException as error:  # a plugin's code may raise anything, SystemExit included
            if entry.plugin == CORE:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            given = f" with the options {', '.join(options)}" if options else ""
            raise PluginError(
                f"{singular(kind)} {name!r} of plugin {entry.plugin!r} cannot be made{given} ({reason}); "
                f"{'change them, or ' if options else ''}run `anydiff check {entry.plugin}` and repair or update that "
                "plugin."
            ) from error

    def _of_kind(self, kind: str) -> dict[str, Entry]:
        if kind not in self._entries:
            raise UnknownNameError("kind", kind, KINDS)
        return self._entries[kind]

    def _hint(self, name: str) -> str:
        owner = name.split("/", 1)[0]
        if owner in self.explain:
            return self.explain[owner]
        known = {entry.plugin for entries in self._entries.values() for entry in entries.values()}
        if owner and not owner.startswith(".") and "/" in name and owner not in known:
            return f"No plugin named {owner!r} is installed (`pip install anydiff-{owner}`?)."
        return ""

    def _check(self, plugin: str, entry: Entry) -> None:
        what = f"{singular(entry.kind)} {entry.name!r}"
        if not isinstance(entry.name, str) or not (_NAME.fullmatch(entry.name) or _is_task(entry)):
            raise PluginError(f"{what} is not a valid name; use letters, digits and . _ + - in parts joined by '/'.")
        if entry.kind == "tasks" and "suite" not in entry.metadata and not _is_task(entry):
            raise PluginError(f"{what} has no version; register it as '{entry.name}@1'.")
        taken = self._entries[entry.kind].get(entry.name)
        if taken is not None:
            owner = "the core" if taken.plugin == CORE else f"plugin {taken.plugin!r}"
            raise PluginError(f"{what} is taken by {owner}; register it as '{plugin}/{entry.name}'.")
        if plugin != CORE and entry.name.split("/", 1)[0] != plugin:
            raise PluginError(f"{what} is outside the plugin's own names; register it as '{plugin}/{entry.name}'.")
        if not isinstance(entry.help, str) or not entry.help.strip() or "\n" in entry.help:
            raise PluginError(f"the help of {what} is {entry.help!r}; give one line of text.")
        if not isinstance(entry.reference, str) or not _REFERENCE.fullmatch(entry.reference):
            raise PluginError(f"the reference of {what} is {entry.reference!r}; write 'package.module:attribute'.")
        try:
            json.dumps(dict(entry.metadata))
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"the metadata of {what} is not plain data ({error}); use text, numbers, lists."
            ) from error


def collect(plugin: str, hook: Callable[[str], Callable[..., Any] | None]) -> list[Entry]:
    """Call the registration hooks of one plugin and return what it announces, without adding it anywhere.

    Args:
        plugin: the plugin's name.
        hook: maps ``"register_solvers"`` to the plugin's implementation (called as ``f(register=...)``) or ``None``.
    """
    found: list[Entry] = []
    for kind in KINDS:
        implementation = hook(f"register_{kind}")
        if implementation is not None:
            implementation(register=_Register(kind, plugin, found))
    return found


def _is_task(entry: Entry) -> bool:
    return entry.kind == "tasks" and _TASK.fullmatch(entry.name) is not None


class _Register:
    """The ``register`` callable of one hook call (see :class:`anydiff.hookspecs.Register`)."""

    def __init__(self, kind: str, plugin: str, found: list[Entry]) -> None:
        self._kind, self._plugin, self._found = kind, plugin, found

    def __call__(self, name: str, help: str, reference: str, **metadata: Any) -> None:
        self._found.append(Entry(self._kind, name, help, reference, self._plugin, metadata))


@functools.lru_cache(maxsize=1024)
def _parameters(target: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    """What ``target`` takes; None of a callable written in C that does not tell: then the call itself decides."""
    try:
        return tuple(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None


def check_options(target: Callable[..., Any], what: str, options: Mapping[str, Any]) -> None:
    """Check option names against the signature of ``target``; ``what`` names it in errors (``"solver 'ddim'"``).

    Raises:
        UnknownNameError: an option that ``target`` does not take; suggests the nearest.
        AnydiffError: an option without default is missing.
    """
    parameters = _parameters(target)
    if parameters is None:
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [p.name for p in named]
        for name in options:
            if name not in known:
                raise UnknownNameError(f"option of {what}:", name, known)
    missing = [p.name for p in named if p.default is p.empty and p.name not in options]
    if missing:
        raise AnydiffError(f"{what} needs the option {missing[0]!r}; give it a value.")


def registry() -> Registry:
    """Return the process-wide registry: the core's own entries and those of every plugin that loads (cached)."""
    from anydiff.plugins import loaded

    return loaded().registry
