"""Zarr groups before they are read: what their metadata ask for. Zarr itself would go through every chunk of it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from anydiff.data.reading import Source, check_declared_size, parse_json, read_text, reading
from anydiff.errors import FileFormatError

FREE_CHUNKS = 100_000
"""Chunks that an array may have beyond ten times those that are stored: an absent one is its fill value."""
MAX_METADATA_BYTES = 16 << 20


def check_zarr(
    path: Source, what: str = "a Zarr group", advice: str = "get it again", *, in_memory: bool = True
) -> None:
    """Refuse a Zarr group whose arrays ask for too much memory or too many chunks, or whose metadata are damaged.

    Args:
        path: the folder.
        what: what it should be.
        advice: the fix.
        in_memory: whether it will be read whole; otherwise one chunk at a time, and only a chunk is bounded.

    Raises:
        AnydiffError: it does not exist or may not be read.
        FileFormatError: as above; names the array.
    """
    root = Path(path)
    with reading(root, what, advice):
        files = sorted([*root.rglob("zarr.json"), *root.rglob(".zarray")])
        stored = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    total = 0
    for file in files:
        with reading(file, what, advice):
            body = parse_json(read_text(file, MAX_METADATA_BYTES, what, advice), file, what, advice)
            if file.name == "zarr.json" and body["node_type"] != "array":
                continue
            total += _check_array(body, file, root, stored, advice, in_memory)
    if in_memory:
        check_declared_size(total, root, "all that it holds", stored)


def check_chunks(path: Source, names: Collection[str] | None = None) -> None:
    """Refuse a Zarr group in which a chunk of numbers is not stored, which would read as the fill value.

    Whether the chunk was all that value or is lost cannot be told.

    Args:
        path: the folder.
        names: of the arrays that are looked at; all by default. An axis may well be all zeros.

    Raises:
        FileFormatError: names array and chunk.
    """
    import zarr

    root = Path(path)
    with reading(root, "a Zarr group", "write it again"):
        opened = zarr.open(root, mode="r")
        arrays = dict(opened.arrays()) if isinstance(opened, zarr.Group) else {"": opened}
        lost = {
            name: _missing(root / name, array)
            for name, array in arrays.items()
            if array.dtype.kind in "biuf" and (names is None or name in names)
        }
    for name, keys in lost.items():
        if keys:
            others = f", and {len(keys) - 1} others are not" if len(keys) > 1 else ""
            raise FileFormatError(
                f"chunk {keys[0]!r} of array {name!r} of {str(root)!r} is not stored{others}: it is lost, or holds the "
                "fill value alone; write the array with write_empty_chunks, so that the two cannot be taken for each "
                "other."
            )


def _missing(folder: Path, array: Any) -> list[str]:
    """The keys of the chunks (of the shards, where there are some) of a Zarr ``array`` that are no files."""
    sizes = array.shards or array.chunks
    counts = [-(-size // part) for size, part in zip(array.shape, sizes, strict=True)]
    keys = (array.metadata.encode_chunk_key(place) for place in itertools.product(*map(range, counts)))
    return [key for key in keys if not (folder / key).is_file()]


def _check_array(body: dict[str, Any], file: Path, root: Path, stored: int, advice: str, in_memory: bool) -> int:
    """Bytes of one array, whose metadata are ``body``."""
    modern = file.name == "zarr.json"
    shape = [_size(each) for each in body["shape"]]
    chunk = [_size(each) for each in (body["chunk_grid"]["configuration"]["chunk_shape"] if modern else body["chunks"])]
    if len(chunk) != len(shape) or 0 in chunk:
        raise ValueError(f"shape {shape} does not go with chunks {chunk}")
    item = _item_bytes(body["data_type"] if modern else body["dtype"])
    name = f"its array {str(file.parent.relative_to(root))!r} of shape {tuple(shape)}"
    if in_memory:
        check_declared_size(math.prod(shape) * item, root, name, stored)
    check_declared_size(math.prod(chunk) * item, root, f"one chunk of {name}", stored)
    chunks = math.prod(-(-size // part) for size, part in zip(shape, chunk, strict=True))
    files = sum(1 for each in file.parent.rglob("*") if each.is_file())
    if chunks > FREE_CHUNKS + 10 * files:
        raise FileFormatError(
            f"{str(root)!r} has {files} files for {chunks:,} chunks of {name}; it is damaged, or its chunks are too "
            f"small: {advice}."
        )
    return math.prod(shape) * item


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"a size is {value!r}")
    return value


def _item_bytes(kind: object) -> int:
    """Bytes of one value of a type as Zarr 3 (``float32``) or NumPy (``<f4``) names it; 8 where it cannot be told."""
    text = kind if isinstance(kind, str) else ""
    bits = re.fullmatch(r"[a-z]+(\d+)", text)
    if bits:
        return max(int(bits[1]) // 8, 1)
    size = re.fullmatch(r"[<>|=]?[a-zA-Z](\d+)(\[.*\])?", text)
    return int(size[1]) if size else 8
