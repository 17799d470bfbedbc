"""Pickled checkpoints to safetensors: only tensors and plain containers are read, and no object is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_path


def tensors_of_checkpoint(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The named tensors of a checkpoint that ``torch.save`` wrote, read with ``weights_only=True``.

    Args:
        path: the file.
        key: where they stand in it, ``"ema.module"`` say; needed where there are several tables of tensors.

    Raises:
        FileFormatError: no such file, or one that asks for objects to be built; the sentence names them.
        AnydiffError: no table of tensors, or several of them and no key.
    """
    if not path.is_file():
        raise AnydiffError(f"{str(path)!r} is not a file; give a checkpoint that torch.save wrote.")
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:
        raise _unreadable(path, error) from error
    if unsafe:
        named = ", ".join(sorted(unsafe)[:6])
        raise FileFormatError(
            f"{str(path)!r} asks for {len(unsafe)} objects to be built by code ({named}), which is refused; save its "
            "tensors alone: torch.save(model.state_dict(), FILE)."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error) from error
    tables = dict(_tables(content, ""))
    if key is None and len(tables) != 1:
        known = ", ".join(name or "the whole" for name in tables) or "none"
        raise AnydiffError(f"{str(path)!r} holds {len(tables)} tables of tensors ({known}); choose one with --key.")
    chosen = next(iter(tables)) if key is None else key
    if chosen not in tables:
        raise AnydiffError(f"{str(path)!r} has no table of tensors {chosen!r}; it has {', '.join(tables) or 'none'}.")
    return tables[chosen]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors that every library reads, atomically."""
    flat = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(flat, temporary, metadata={"format": "pt"})


def _tables(content: Any, place: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping of names to tensors alone, with where it stands."""
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and len(tensors) == len(content):
        yield place, tensors
        return
    for name, value in content.items():
        yield from _tables(value, f"{place}.{name}" if place else name)


def _unreadable(path: Path, error: Exception) -> FileFormatError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return FileFormatError(f"{str(path)!r} is damaged or no checkpoint of torch ({reason}); get it again.")
