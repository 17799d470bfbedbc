"""Checking hook implementations and calling them, in a documented order, with a trace.

pluggy marks, finds and orders the implementations. The calls are made here because they need what pluggy's do not
offer: transforms are chained, a failing listener is reported by plugin name, and ``ANYDIFF_TRACE=1`` shows each call.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import pluggy

from anydiff import hookspecs
from anydiff.errors import PluginError, UnknownNameError
from anydiff.plugins.answers import watch
from anydiff.plugins.report import report


def specifications() -> dict[str, tuple[str, ...]]:
    """Return every hook's name and its arguments, in the order of :mod:`anydiff.hookspecs`."""
    found = {}
    for name, function in vars(hookspecs).items():
        if inspect.isfunction(function) and hasattr(function, "anydiff_spec"):
            found[name] = tuple(inspect.signature(function).parameters)
    return found


class Hooks:
    """The implementations of all loaded plugins."""

    def __init__(self) -> None:
        self._arguments = specifications()
        self._manager = pluggy.PluginManager("anydiff")
        self._manager.add_hookspecs(hookspecs)
        self._calls: dict[str, list[_Implementation]] = {}
        self._tracing = tracing()

    def validate(self, plugin: object) -> list[str]:
        """Return the hooks that ``plugin`` implements, after checking names and arguments.

        Raises:
            PluginError: an unknown hook, an argument that the hook does not have, a forgotten ``@hookimpl``, or none.
        """
        implemented = []
        for attribute in dir(plugin):
            options: dict[str, Any] | None = self._manager.parse_hookimpl_opts(plugin, attribute)  # type: ignore[assignment]
            function = inspect.getattr_static(plugin, attribute, None)
            if options is None:
                if attribute in self._arguments and inspect.isfunction(function) and not _is_spec(function):
                    raise PluginError(f"{attribute} lacks its marker; write @anydiff.hookimpl above it.")
                continue
            hook = options.get("specname") or attribute
            if hook not in self._arguments:
                raise UnknownNameError("hook", hook, self._arguments)
            if options.get("wrapper") or options.get("hookwrapper"):
                raise PluginError(
                    f"{attribute} is a hook wrapper, which anydiff does not call; write a plain function."
                )
            _argument_names(hook, getattr(plugin, attribute), self._arguments[hook])
            implemented.append(hook)
        if not implemented:
            raise PluginError("it implements no hook; mark its functions with @anydiff.hookimpl.")
        return implemented

    def register(self, name: str, plugin: object) -> None:
        """Add the implementations of a validated plugin."""
        self._manager.register(plugin, name)
        self._calls.clear()

    def unregister(self, name: str) -> None:
        """Remove the implementations of a plugin."""
        self._manager.unregister(name=name)
        self._calls.clear()

    def plugin(self, name: str) -> object | None:
        """Return the module or object registered as ``name``, or ``None``."""
        found: object | None = self._manager.get_plugin(name)
        return found

    def has(self, hook: str) -> bool:
        """Return whether anybody implements ``hook``, so that a caller can skip the preparation of its arguments."""
        return bool(self._implementations(hook))

    def implementers(self, *hooks: str) -> list[str]:
        """Return the names of the plugins that implement one of ``hooks``; of none given, any event or transform."""
        asked = hooks or [name for name in self._arguments if not name.startswith("register_")]
        for hook in asked:
            if hook not in self._arguments:
                raise UnknownNameError("hook", hook, self._arguments)
        # Not self._calls, which a listener that failed has left.
        return sorted(
            {each.plugin_name for hook in asked for each in getattr(self._manager.hook, hook).get_hookimpls()}
        )

    def notify(self, hook: str, /, **arguments: Any) -> None:
        """Call an event. A listener that fails is reported once, is not called again, and stops nobody else."""
        calls = self._implementations(hook)
        if not calls:
            if self._tracing:
                trace(hook, arguments, "nobody", None)
            return
        self._check(hook, arguments)
        for implementation in tuple(calls):
            try:
                result = implementation(arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an observer must not end a training, whatever it raises
                calls.remove(implementation)
                report(
                    f"plugin {implementation.plugin!r} failed in {hook} ({_brief(error)}) and is not called there "
                    f"again; repair it, or `anydiff plugins disable {implementation.plugin}`."
                )
            else:
                if self._tracing:
                    trace(hook, arguments, implementation.plugin, result)

    def transform(self, hook: str, /, say: Callable[[Any, Any], str] | None = None, **arguments: Any) -> Any:
        """Call a transform and return its first argument as the implementations, one after the other, left it.

        Args:
            hook: the transform.
            say: given the subject before and after a plugin changed it, what the user should hear of that, or ``""``.
            arguments: of the hook.

        Raises:
            PluginError: an implementation failed, or answered with what cannot stand in for the subject: another shape
                or dtype, NaN. To go on without it would silently change the result.
        """
        subject = self._arguments[hook][0] if hook in self._arguments else ""
        calls = self._implementations(hook)
        if calls:
            self._check(hook, arguments)
        elif self._tracing:
            trace(hook, arguments, "nobody", None)
        for implementation in calls:
            wrong = watch(hook, arguments)
            try:
                result = implementation(arguments)
            except (KeyboardInterrupt, PluginError):
                raise
            except BaseException as error:  # names the plugin, whatever it raises
                raise PluginError(
                    f"plugin {implementation.plugin!r} failed in {hook} ({_brief(error)}); "
                    f"repair it, or `anydiff plugins disable {implementation.plugin}`."
                ) from error
            if self._tracing:
                trace(hook, arguments, implementation.plugin, result)
            fault = wrong(result)
            if fault:
                raise PluginError(
                    f"plugin {implementation.plugin!r} {fault} in {hook}; "
                    f"repair it, or `anydiff plugins disable {implementation.plugin}`."
                )
            if result is not None:
                heard = say(arguments[subject], result) if say is not None else ""
                if heard:
                    report(f"plugin {implementation.plugin!r} {heard} in {hook}.")
                arguments[subject] = result
        return arguments[subject]

    def implementation(self, plugin: str, hook: str) -> Callable[..., Any] | None:
        """Return what ``plugin`` implements ``hook`` with, callable with the hook's arguments by name."""
        for candidate in self._implementations(hook):
            if candidate.plugin == plugin:
                return lambda **arguments: candidate(arguments)
        return None

    def _implementations(self, hook: str) -> list[_Implementation]:
        found = self._calls.get(hook)
        if found is None:
            if hook not in self._arguments:
                raise UnknownNameError("hook", hook, self._arguments)
            known = self._arguments[hook]
            # Sorted here: pluggy's own order depends on the order of registration.
            marked = sorted(
                getattr(self._manager.hook, hook).get_hookimpls(),
                key=lambda each: (not each.tryfirst, each.trylast, each.plugin_name),
            )
            found = [_Implementation(hook, each.plugin_name, each.function, known) for each in marked]
            self._calls[hook] = found
        return found

    def _check(self, hook: str, arguments: dict[str, Any]) -> None:
        if arguments.keys() != set(self._arguments[hook]):
            raise TypeError(f"{hook} is called with {sorted(arguments)}, but has {sorted(self._arguments[hook])}")


class _Implementation:
    """One plugin's function for one hook, called with the arguments it names."""

    def __init__(self, hook: str, plugin: str, function: Callable[..., Any], known: tuple[str, ...]) -> None:
        self.plugin = plugin
        self._function = function
        self._names = _argument_names(hook, function, known)

    def __call__(self, arguments: dict[str, Any]) -> Any:
        return self._function(**{name: arguments[name] for name in self._names})


def _is_spec(function: object) -> bool:
    return hasattr(function, "anydiff_spec")


def _argument_names(hook: str, function: Callable[..., Any], known: tuple[str, ...]) -> list[str]:
    names = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise PluginError(f"{hook} takes {str(parameter)!r}; name the arguments: {', '.join(known)}.")
        if parameter.name not in known:
            raise UnknownNameError(f"argument of {hook}:", parameter.name, known)
        names.append(parameter.name)
    return names


# Trace --------------------------------------------------------------------------------------------------------------


def tracing() -> bool:
    """Whether ``ANYDIFF_TRACE`` asks for a trace."""
    return os.environ.get("ANYDIFF_TRACE", "") not in ("", "0")


def trace(hook: str, arguments: dict[str, Any], plugin: str, result: object) -> None:
    """Print one line to stderr: the hook, its arguments, who answered, and what."""
    shown = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
    print(f"anydiff trace: {hook}({shown}): {plugin} -> {_short(result)}", file=sys.stderr)


def _short(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None and not inspect.isclass(value):
        return f"{type(value).__name__}{list(shape)}" if hasattr(shape, "__iter__") else type(value).__name__
    if isinstance(value, tuple | list):
        return f"({', '.join(_short(item) for item in value[:4])}{', …' if len(value) > 4 else ''})"
    try:
        text = repr(value)
    except Exception:  # a trace must not fail on somebody's __repr__
        text = type(value).__name__
    return text if len(text) <= 80 and "\n" not in text else f"{type(value).__name__}(…)"


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
