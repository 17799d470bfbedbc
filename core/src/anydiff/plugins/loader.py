"""Loading plugins so that no broken one can hurt: each import is guarded, each registration is all or nothing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anydiff import builtin
from anydiff.errors import AnydiffError, PluginError
from anydiff.hookspecs import API_VERSION
from anydiff.plugins import state
from anydiff.plugins.calls import Hooks, trace, tracing
from anydiff.plugins.discovery import ENABLED, EXCLUDED, Plugin, discover, fingerprint
from anydiff.plugins.report import report
from anydiff.registry import CORE, Registry, collect, missing_module_advice

FAILED, LOADED = "failed", "loaded"
SLOW_SECONDS = 5.0
"""An import that takes longer is named on stderr, so that a hanging plugin can be recognised."""


@dataclass
class Loaded:
    """The registry and hooks of this process, and what became of each plugin."""

    registry: Registry = field(default_factory=Registry)
    hooks: Hooks = field(default_factory=Hooks)
    plugins: list[Plugin] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def load(self, plugin: Plugin, marker: bool = True) -> Plugin:
        """Load one plugin, or leave nothing of it behind; return it with its new status and problem.

        ``marker=False``: an import that kills this process does not quarantine the plugin.
        """
        before = set(sys.modules)
        try:
            with state.importing(plugin.name, plugin.version) if marker else contextlib.nullcontext():
                module = _import(plugin)
                implemented = self._enter(plugin.name, module)
        except PluginError as error:
            _forget_modules(plugin, before)
            plugin = replace(plugin, status=FAILED, problem=_sentence(plugin, error))
            self.registry.explain[plugin.name] = plugin.problem
            state.remember(plugin.name, {**_identity(plugin), "problem": plugin.problem})
            return plugin
        provides: dict[str, list[list[str]]] = {}
        for entry in self.registry.of_plugin(plugin.name):
            provides.setdefault(entry.kind, []).append([entry.name, entry.help])
        outcome = {"problem": "", "hooks": implemented, "provides": provides}
        state.remember(plugin.name, {**_identity(plugin), **outcome})
        return replace(plugin, status=LOADED)

    def _enter(self, name: str, module: object) -> list[str]:
        """Validate, collect and add; on any error nothing of ``name`` remains."""
        with _guarded("registration"):
            implemented = self.hooks.validate(module)
            self.hooks.register(name, module)
            try:
                entries = collect(name, lambda hook: self.hooks.implementation(name, hook))
                self.registry.add(name, entries)
            except BaseException:
                self.hooks.unregister(name)
                raise
        if tracing():
            for hook in implemented:
                if hook.startswith("register_"):
                    kind = hook.removeprefix("register_")
                    trace(hook, {}, name, [entry.name for entry in entries if entry.kind == kind])
        return implemented


def _identity(plugin: Plugin) -> dict[str, Any]:
    return {"version": plugin.version, "fingerprint": fingerprint(plugin)}


def load_core() -> Loaded:
    """Return a registry with the core's own entries alone; imports no plugin."""
    result = Loaded()
    result._enter(CORE, builtin)
    return result


def load_all() -> Loaded:
    """Load the core and every plugin that may be loaded; report each that could not be, in one sentence."""
    _make_folders_absolute()
    result = load_core()
    found = discover()
    result.problems += found.notes
    enabled = {plugin.name: plugin for plugin in _tried([each for each in found.plugins if each.status == ENABLED])}
    for plugin in found.plugins:
        plugin = enabled[plugin.name] if plugin.status == ENABLED else plugin
        if plugin.status == ENABLED:
            plugin = result.load(plugin)
        else:
            result.registry.explain[plugin.name] = plugin.problem
        result.plugins.append(plugin)
    result.problems += [plugin.problem for plugin in result.plugins if _to_report(plugin)]
    for problem in result.problems:
        report(problem)
    return result


def _tried(plugins: list[Plugin]) -> list[Plugin]:
    """``plugins``, those that are new or changed after their trial in another process."""
    if all(state.tried(plugin.name, plugin.version, fingerprint(plugin)) for plugin in plugins):
        return plugins
    from anydiff.plugins.trial import try_new

    return try_new(plugins)


def _to_report(plugin: Plugin) -> bool:
    """Whether the user should hear of it unasked: not of what they switched off themselves."""
    return bool(plugin.problem) and plugin.status not in ("disabled", EXCLUDED)


# Guarded import -----------------------------------------------------------------------------------------------------


def _import(plugin: Plugin) -> object:
    with _named_if_slow(plugin), _guarded("import"):
        module = _import_module(plugin)
        _check_api(getattr(module, "ANYDIFF_API", None))
    return module


def _import_module(plugin: Plugin) -> object:
    if not plugin.distribution:
        return _import_file(plugin.name, Path(plugin.source))
    module_name, _, attribute = plugin.source.partition(":")
    value: Any = importlib.import_module(module_name.strip())
    for part in filter(None, attribute.split("[")[0].strip().split(".")):
        value = getattr(value, part)
    # A class given as entry point is a plugin with methods; hooks need an object.
    return value() if inspect.isclass(value) else value


def _import_file(name: str, path: Path) -> object:
    existing = sys.modules.get(name)
    if existing is not None and _same_file(getattr(existing, "__file__", None), path):
        return existing
    found = None if existing is not None else importlib.util.find_spec(name)
    # The folder may itself be on the search path (`python -m` puts the working directory there): then it hides none.
    if existing is not None or (found is not None and not _same_file(found.origin, path)):
        raise PluginError(f"its file name hides the module {name!r}; rename {path.name}.")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{str(path)!r} is not a Python file; remove it from the plugin folder.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that "name:attribute" resolves
    spec.loader.exec_module(module)
    return module


def _same_file(origin: str | None, path: Path) -> bool:
    return origin is not None and Path(origin).resolve() == path.resolve()


def _check_api(asked: object) -> None:
    if asked is None:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        accepted = SpecifierSet(str(asked))
    except InvalidSpecifier:
        raise PluginError(f"ANYDIFF_API is {asked!r}; write a range such as '>={API_VERSION}'.") from None
    if not accepted.contains(API_VERSION, prereleases=True):
        raise PluginError(
            f"it asks for the plugin API {asked}, but this is {API_VERSION}; upgrade the plugin or anydiff "
            "(docs/plugins.md says what changed, 'From API 1 to 2')."
        )


@contextlib.contextmanager
def _guarded(what: str) -> Iterator[None]:
    """Turn whatever a plugin raises into a :class:`PluginError`; what it prints goes to stderr."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a stray print must not spoil `--json`
            yield
    except (KeyboardInterrupt, PluginError):
        raise
    except AnydiffError as error:
        raise PluginError(str(error)) from error
    except ModuleNotFoundError as error:
        fix = missing_module_advice(error.name) if error.name else "reinstall the plugin"
        raise PluginError(f"{error}; {fix}.") from error
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}" if error.filename else "its code"
        raise PluginError(f"SyntaxError: {error.msg} at {place}; repair or update it.") from error
    except BaseException as error:  # SystemExit and whatever else: a plugin must not end the program
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"its {what} raised {reason}; repair or update it.") from error


@contextlib.contextmanager
def _named_if_slow(plugin: Plugin) -> Iterator[None]:
    def tell() -> None:
        print(
            f"anydiff: still importing {plugin.label} after {SLOW_SECONDS:.0f} s; to go on without it, interrupt and "
            f"run `anydiff plugins disable {plugin.name}`.",
            file=sys.stderr,
        )

    timer = threading.Timer(SLOW_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(f"interrupted while importing {plugin.label}; `anydiff plugins disable {plugin.name}` skips it.")
        raise
    finally:
        timer.cancel()


def _sentence(plugin: Plugin, error: PluginError) -> str:
    return f"{plugin.label} was not loaded: {str(error).rstrip('.')} (or `anydiff plugins disable {plugin.name}`)."


def _forget_modules(plugin: Plugin, before: set[str]) -> None:
    """Roll back the plugin's own modules, so that a second attempt does not meet half of the first."""
    top = plugin.source.partition(":")[0].split(".")[0] if plugin.distribution else plugin.name
    for name in set(sys.modules) - before:
        if name == top or name.startswith(f"{top}."):
            del sys.modules[name]


# The one of this process --------------------------------------------------------------------------------------------

_lock = threading.RLock()
_cache: Loaded | None = None
_busy = False


def loaded() -> Loaded:
    """Return what is loaded in this process, loading it on the first call.

    Raises:
        PluginError: called by a plugin while plugins are being loaded.
    """
    global _cache, _busy
    with _lock:
        if _cache is None:
            if _busy:
                raise PluginError("the registry is asked for while plugins are loading; ask later, inside a function.")
            _busy = True
            try:
                _cache = load_all()
            finally:
                _busy = False
        return _cache


def load_alone(plugin: Plugin) -> tuple[Loaded, Plugin]:
    """Load the core and one plugin, and nothing else in this process (for :mod:`anydiff.plugins.probe`)."""
    global _cache, _busy
    with _lock:
        alone = load_core()
        _busy = True
        try:
            plugin = alone.load(plugin, marker=False)
        finally:
            _busy = False
        _cache = alone
    return alone, plugin


def load_together(plugins: Sequence[Plugin], begin: Callable[[Plugin], None], end: Callable[[Plugin], None]) -> None:
    """Load the core and ``plugins`` one after the other, both told each (for :mod:`anydiff.plugins.trial`)."""
    global _cache, _busy
    with _lock:
        together = load_core()
        _busy = True
        try:
            for plugin in plugins:
                begin(plugin)
                together.load(plugin, marker=False)
                end(plugin)
        finally:
            _busy = False
        _cache = together


def hooks() -> Hooks:
    """Return the hooks of this process: ``hooks().notify(...)`` for events, ``hooks().transform(...)`` to transform."""
    return loaded().hooks


def forget() -> None:
    """Forget what is loaded, so that the next use discovers plugins afresh (tests, changed settings)."""
    global _cache
    with _lock:
        _cache = None


def _make_folders_absolute() -> None:
    """Rewrite ``ANYDIFF_PLUGINS_DIR`` without relative paths: a child process may work in another folder."""
    given = os.environ.get("ANYDIFF_PLUGINS_DIR", "")
    if given:
        parts = [str(Path(part).absolute()) for part in given.split(os.pathsep) if part]
        os.environ["ANYDIFF_PLUGINS_DIR"] = os.pathsep.join(parts)


def use_folder(folder: str | os.PathLike[str]) -> None:
    """Add a folder of single-file plugins for this process and those it starts.

    Raises:
        AnydiffError: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise AnydiffError(f"the plugin folder {str(folder)!r} is not a folder; give one that holds *.py files.")
    present = [part for part in os.environ.get("ANYDIFF_PLUGINS_DIR", "").split(os.pathsep) if part]
    resolved = str(path.resolve())
    if resolved not in present:
        os.environ["ANYDIFF_PLUGINS_DIR"] = os.pathsep.join([*present, resolved])
        forget()
