"""Other models that a recipe names: the base that a training starts from, and companions of its loss.

A source (a recipe with bundled weights, a run folder, a weights file) says where a model lies and not which it is. So
the resolved recipe of a run holds the hashes beside it, and a recipe that holds hashes refuses another model.
"""

from __future__ import annotations

from typing import Any

from pydantic import field_validator, model_validator

from anydiff.settings import Settings


class Model(Settings):
    """A model by its source. In a file ``teacher: images/fashion`` is short for ``teacher: {source: images/fashion}``.

    Attributes:
        source: a recipe with bundled weights, a run folder, or a weights file.
        recipe_hash: of its recipe; empty where any will do.
        weights_hash: of its weights and of what it needs itself; empty where any will do. A training fills in both.
    """

    source: str
    recipe_hash: str = ""
    weights_hash: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("source")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a model needs a source: a recipe with bundled weights, a run folder, or a weights file")
        return value


class Start(Model):
    """The base whose weights a training begins with.

    Attributes:
        partial: take the tensors that match by name and shape, and begin the others at random; by default all must.
        freeze: patterns (``*`` and ``?``) of the network's parameters that are not trained: ``down.*``.
    """

    partial: bool = False
    freeze: tuple[str, ...] = ()
