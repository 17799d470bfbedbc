"""Options of domains: two of one shape that read numbers differently must say so in their codec."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from anydiff.domains import Domain
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.recipes.build import codec_differences, same_values
from anydiff.registry import Entry
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require

NONSENSE = "no such value ?!"
EXEMPT = "beside_codec"
"""The fact that a domain registers about options which leave the meaning of numbers as it is: how many nodes samples
have, the colour of a picture."""


@check("domain.options", "domains")
def options(plugin: Subject, entry: Entry) -> None:
    """Two domains of equal spec and unequal options differ in codec, and a codec is plain data."""
    target = entry.load()
    given = plugin.built_with(entry)
    own: Domain = plugin.registry.build("domains", entry.name, **given)
    for domain in (own, *_of_recipes(plugin, entry)):
        try:
            json.dumps(domain.codec, allow_nan=False)
        except (TypeError, ValueError) as error:
            require(
                False, f"its codec cannot be written as JSON ({error}); give text, numbers, lists and dictionaries."
            )
    exempt = set(entry.metadata.get(EXEMPT) or ())
    for name, value, other in _others(plugin, entry, target, given):
        if name in exempt or other.spec != own.spec or other.conditions.keys() != own.conditions.keys():
            continue
        differ = bool(codec_differences(own, other))
        require(
            differ,
            f"with the option {name}={_short(value)} the spec is the same and so is the codec: data made with another "
            f"{name} would be taken for this domain's; add {name!r} to its codec.",
        )


def _of_recipes(plugin: Subject, entry: Entry) -> Iterator[Domain]:
    for recipe in plugin.recipes.values():
        if recipe.domain.name == entry.name:
            yield plugin.registry.build("domains", entry.name, **recipe.domain.options)


def _others(
    plugin: Subject, entry: Entry, target: Callable[..., Any], given: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Domain]]:
    """(option, its other value, the domain with it) for each other value that the domain takes."""
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        value = given.get(parameter.name, parameter.default)

        def build(other: Any, name: str = parameter.name) -> Domain:
            built: Domain = plugin.registry.build("domains", entry.name, **{**given, name: other})
            return built

        for other in _values(value, str(parameter.annotation), build):
            if same_values(value, other):
                continue
            try:
                domain = build(other)
            except Exception:  # it does not take this value, which is its right
                continue
            yield parameter.name, other, domain


def _values(value: Any, annotation: str, build: Callable[[Any], object]) -> list[Any]:
    """Other values of an option, guessed from the one it has; from its annotation where that is None."""
    if value is None or value is inspect.Parameter.empty:
        guesses = {"equence[str]": ["a", "b"], "equence[float]": [1.0, 2.0], "equence[int]": [1, 2], "float": 1.5}
        found = next((guess for part, guess in guesses.items() if part in annotation), None)
        if found is None and "int" in annotation:
            found = 2
        return [found] if found is not None else _texts(build) if "str" in annotation else []
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [1.5 * value + 0.25, 0.5 * value]
    if isinstance(value, str):
        return _texts(build)
    if isinstance(value, Mapping):
        return [{**value, key: other} for key, inner in value.items() for other in _values(inner, "", build)]
    if isinstance(value, list | tuple) and value:
        inner = [
            [*value[:i], other, *value[i + 1 :]] for i in (0, -1 % len(value)) for other in _values(value[i], "", _no)
        ]
        renamed = [[f"other {each}" for each in value]] if all(isinstance(each, str) for each in value) else []
        return [list(value)[::-1], *renamed, *inner]
    return []


def _no(value: Any) -> object:
    raise AnydiffError("texts inside of lists are renamed, not looked up.")


def _texts(build: Callable[[Any], object]) -> list[Any]:
    """Texts that an option takes: those that it names when it refuses nonsense, else the nonsense itself."""
    try:
        build(NONSENSE)
    except UnknownNameError as error:
        return list(error.known)
    except Exception as error:  # whatever it is, it may quote what it takes
        return [text for text in re.findall(r"'([^']+)'", str(error)) if text != NONSENSE]
    return [NONSENSE]


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
