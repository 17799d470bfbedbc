"""Tensors with a description: safetensors files whose metadata hold one JSON text, as plans and records are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from anydiff.errors import FileFormatError


def read_described(
    path: str | Path, framework: Literal["numpy", "pt"], metadata: str, what: str, fix: str
) -> tuple[str, dict[str, Any]]:
    """The text under ``metadata``, and all arrays (``numpy``) or tensors (``pt``) by name.

    Args:
        path: the file.
        framework: what the tensors become.
        metadata: name of the field that holds the text.
        what: the file holds, as in ``"plan"``.
        fix: what to do: ``"write one with Plan.save()"``.

    Raises:
        FileFormatError: the file is missing, truncated, no safetensors file, or lacks the field.
    """
    try:
        with safe_open(path, framework) as file:
            text = (file.metadata() or {}).get(metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(
            f"{str(path)!r} is missing, truncated or no safetensors file ({error}); {fix}."
        ) from error
    if text is None:
        raise FileFormatError(f"{str(path)!r} holds no {what}; {fix}.")
    return text, tensors
