"""What a transform hook may answer: checked here, so that a plugin that spoils batches or samples is named.

Tensors are looked at by their attributes alone, because nothing here may import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Watch = Callable[[Any], str]
"""Given an answer (None: left as it is), tells what is wrong with it, or nothing."""


def watch(hook: str, arguments: Mapping[str, Any]) -> Watch:
    """What the answers to ``hook`` are checked with, which is called with ``arguments``."""
    made = _WATCHES.get(hook)
    return made(arguments) if made is not None else lambda answer: ""


def _is_tensor(value: object) -> bool:
    return all(hasattr(value, name) for name in ("shape", "dtype", "isfinite"))


def _face(value: Any) -> tuple[tuple[int, ...], str]:
    return tuple(value.shape), str(value.dtype)


def _finite(value: Any) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _compare(name: str, before: tuple[tuple[int, ...], str], was_finite: bool, answer: Any) -> str:
    """What is wrong with a tensor that stands in for one of another face."""
    if not _is_tensor(answer):
        return f"gives {name} that are {type(answer).__name__} and no tensor"
    if _face(answer) != before:
        shape, dtype = _face(answer)
        return f"gives {name} of shape {shape} and {dtype}, but they had shape {before[0]} and {before[1]}"
    if was_finite and not _finite(answer):
        return f"gives {name} that are not finite"
    return ""


def _watch_samples(arguments: Mapping[str, Any]) -> Watch:
    states = arguments["states"]
    if not _is_tensor(states):
        return lambda answer: ""
    face, was_finite, version = _face(states), _finite(states), getattr(states, "_version", None)

    def wrong(answer: Any) -> str:
        if answer is not None:
            return _compare("states", face, was_finite, answer)
        if getattr(states, "_version", None) != version:
            return "changes the states it is given and returns None; return what shall replace them"
        return _compare("states", face, was_finite, states)

    return wrong


def _watch_batch(arguments: Mapping[str, Any]) -> Watch:
    batch = arguments["batch"]
    if not _is_batch(batch):
        return lambda answer: ""
    faces = {name: (_face(value), _finite(value)) for name, value in _tensors(batch).items()}

    def wrong(answer: Any) -> str:
        now = batch if answer is None else answer
        if not _is_batch(now):
            return "gives no pair of states and their Conditioning"
        found = _tensors(now)
        if found.keys() != faces.keys():
            return f"gives {sorted(found)}, but the batch has {sorted(faces)}"
        return next(filter(None, (_compare(name, *faces[name], value) for name, value in found.items())), "")

    return wrong


def _is_batch(value: Any) -> bool:
    # By what it can do: this room knows nothing of the states' classes, which would load torch.
    pair = isinstance(value, tuple | list) and len(value) == 2 and _is_tensor(value[0])
    return pair and callable(getattr(value[1], "tensors", None))


def _tensors(batch: Any) -> dict[str, Any]:
    return {"states": batch[0], **dict(batch[1].tensors())}


def _watch_denoiser(arguments: Mapping[str, Any]) -> Watch:
    face = ("predict", "path", "native_kind")
    if not all(hasattr(arguments["denoiser"], name) for name in face):
        return lambda answer: ""

    def wrong(answer: Any) -> str:
        if answer is None or (callable(answer) and all(hasattr(answer, name) for name in face)):
            return ""
        return f"gives {type(answer).__name__}, which is no denoiser"

    return wrong


_WATCHES: dict[str, Callable[[Mapping[str, Any]], Watch]] = {
    "samples_ready": _watch_samples,
    "transform_batch": _watch_batch,
    "wrap_denoiser": _watch_denoiser,
}
