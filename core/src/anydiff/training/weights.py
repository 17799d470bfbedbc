"""Weights as safetensors with metadata: tensors and text, nothing that is executed on loading."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anydiff.data.reading import Place, parse_json
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_path

FORMAT = "anydiff-weights-2"
BEFORE = "anydiff-weights-1"
"""Does not say which other models it needs (:func:`requirements`); read, and written again as :data:`FORMAT`."""
REQUIRES = "requires"
"""The metadata field of the models that a model needs."""
_NARROWER = {
    torch.float32: (torch.float16, torch.bfloat16),
    torch.float64: (torch.float16, torch.bfloat16, torch.float32),
}
"""Types that are widened without loss, by the network's own."""


@dataclass(frozen=True)
class Requirement:
    """Another model that a model needs.

    Attributes:
        source: a recipe's name, or a path relative to the folder of the weights.
        recipe_hash: of its recipe.
        weights_hash: of its weights, and of what it needs itself.
    """

    source: str
    recipe_hash: str
    weights_hash: str


def save_weights(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], overwrite: bool = False
) -> None:
    """Write ``tensors`` and ``metadata`` to ``path`` (safetensors), atomically; the same content is the same bytes.

    Raises:
        AnydiffError: the file exists and ``overwrite`` is false, or it cannot be written.
    """
    if Path(path).exists() and not overwrite:
        raise AnydiffError(f"{str(path)!r} exists; choose another name or pass overwrite=True.")
    # Clones: safetensors refuses tensors that share memory.
    flat = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(flat, temporary, metadata={**metadata, "format": FORMAT})
        except SafetensorError as error:  # how the library reports a full disk
            raise OSError(str(error)) from error
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into the order of their names: the library writes them in any order.

    The file begins with the length of its header (8 bytes, little endian), then the header (JSON, padded with spaces).
    """
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length)
        if len(text) != length:
            raise OSError(f"the header has {len(text)} bytes in place of {length}")
        file.seek(8)
        file.write(text)


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a file that :func:`save_weights` wrote.

    Raises:
        FileFormatError: the file is truncated, not safetensors, or of another program or version.
        AnydiffError: it does not exist or may not be read.
    """
    metadata = load_metadata(path)
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    return tensors, metadata


def load_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a file of weights alone; errors as :func:`load_weights`."""
    with _opened(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") not in (FORMAT, BEFORE):
        found = metadata.get("format", "no anydiff format")
        raise FileFormatError(
            f"{str(path)!r} holds {found!r}, but {FORMAT!r} is needed; load weights that this version of anydiff saved."
        )
    return metadata


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    path = Path(path)
    if not path.is_file():
        raise AnydiffError(f"{str(path)!r} is not a file; give weights (.safetensors) or a run folder.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except PermissionError as error:
        raise AnydiffError(f"cannot read {str(path)!r}: {error.strerror}; check its permissions.") from error
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise FileFormatError(
            f"{str(path)!r} is truncated or not a safetensors file ({reason}); get or train the weights again."
        ) from error


def requirements_text(models: Mapping[str, Requirement]) -> str:
    """Role -> model as the text of the metadata field :data:`REQUIRES`."""
    return json.dumps({role: asdict(model) for role, model in models.items()}, sort_keys=True)


def requirements(metadata: Mapping[str, str], where: str) -> dict[str, Requirement] | None:
    """Role -> model that weights need, by their metadata; None where their format does not say (:data:`BEFORE`).

    Raises:
        FileFormatError: the field is damaged.
    """
    if REQUIRES not in metadata:
        return None if metadata.get("format") == BEFORE else {}
    advice = "the file is damaged: get the weights again"
    data = parse_json(metadata[REQUIRES], Place(f"the field {REQUIRES!r} of {where!r}"), advice=advice)
    try:
        found = {role: Requirement(**model) for role, model in data.items()}
        if all(isinstance(value, str) for model in found.values() for value in asdict(model).values()):
            return found
    except (AttributeError, TypeError) as error:
        raise FileFormatError(f"the field {REQUIRES!r} of {where!r} names no models ({error}); {advice}.") from error
    raise FileFormatError(f"the field {REQUIRES!r} of {where!r} holds something else than text; {advice}.")


def load_into(module: torch.nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``module`` (half-precision weights are widened).

    Raises:
        FileFormatError: a tensor is missing, unexpected, of another shape, of a type that is neither the network's own
            nor a narrower floating-point type, or holds values that are not finite; names the first.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise FileFormatError(f"{source} lacks the tensor {name!r}; it belongs to another network or recipe.")
        if tensors[name].shape != tensor.shape:
            raise FileFormatError(
                f"{name!r} in {source} has shape {tuple(tensors[name].shape)}, but the network needs "
                f"{tuple(tensor.shape)}; it belongs to another recipe."
            )
        _check_values(name, tensors[name], tensor.dtype, source)
    extra = [name for name in tensors if name not in own]
    if extra:
        raise FileFormatError(f"{source} has the unknown tensor {extra[0]!r}; it belongs to another network or recipe.")
    module.load_state_dict({name: tensors[name].to(own[name].dtype) for name in own})


def _check_values(name: str, tensor: Tensor, wanted: torch.dtype, source: str) -> None:
    """Refuse a type that is not turned into ``wanted`` without loss of meaning or digits, and values out of range."""
    if tensor.dtype != wanted and tensor.dtype not in _NARROWER.get(wanted, ()):
        raise FileFormatError(
            f"{name!r} in {source} is {_short(tensor.dtype)}, but the network holds {_short(wanted)}; export the "
            "weights as float32, float16 or bfloat16 (quantised ones need a network that knows their scale)."
        )
    if tensor.dtype.is_floating_point and not torch.isfinite(tensor).all():
        raise FileFormatError(
            f"{name!r} in {source} holds values that are not finite; it is damaged: get or train the weights again."
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, types, shapes and bytes of ``tensors``, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
