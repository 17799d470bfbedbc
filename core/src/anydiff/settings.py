"""Configuration that cannot lie: an unknown key is an error with a suggestion, a wrong value names its field."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from anydiff.errors import AnydiffError, UnknownNameError

__all__ = ["Settings"]

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every configuration model: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def parse(cls: type[S], data: Any, where: str) -> S:
        """The model of ``data``; ``where`` names its source in errors ("recipe 'images/fashion'").

        Raises:
            UnknownNameError: a key the model does not have; suggests the nearest.
            AnydiffError: a value of the wrong type or out of range; names field, value and what is wrong.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise cls._explain(error, where) from error

    @classmethod
    def _explain(cls, error: ValidationError, where: str) -> AnydiffError:
        found = error.errors()
        # Of a field that may be one of several kinds every kind complains; an unknown key says most.
        first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
        location = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            return UnknownNameError(f"key in {where}:", location[-1], cls._keys(location[:-1]))
        field = ".".join(location) or "the whole"
        if first["type"] == "missing":
            return AnydiffError(f"{field} is missing in {where}; give it a value.")
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        return AnydiffError(f"{field} in {where} is {first['input']!r}, but {reason}.")

    @classmethod
    def _keys(cls, location: list[str]) -> list[str]:
        """The keys of the model found by walking ``location`` from here, through lists and dictionaries."""
        kinds: list[Any] = [cls]
        for part in location:
            models = [model for kind in kinds for model in _models(kind)]
            fields = [model.model_fields[part].annotation for model in models if part in model.model_fields]
            # A number in a list, a key of a dictionary or a member of a union: the same models, one level further in.
            kinds = fields or kinds
        keys = {name: None for kind in kinds for model in _models(kind) for name in model.model_fields}
        return list(keys or cls.model_fields)


def _models(kind: Any) -> list[type[BaseModel]]:
    """The models in an annotation: ``tuple[Method, ...] | None`` holds ``Method``."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _models(inner)]
