"""Zarr groups before they are read: sizes and numbers of chunks that metadata ask for are bounded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from anydiff.data.zarr_store import check_zarr
from anydiff.errors import AnydiffError, FileFormatError


@pytest.fixture(params=[2, 3])
def store(request, tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=request.param)
    array = group.create_array("inner/x", shape=(10, 20), chunks=(5, 20), dtype="f4")
    array[...] = np.ones((10, 20))
    check_zarr(tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


def change(store, **values) -> None:
    file = next(iter([*store.glob("inner/x/zarr.json"), *store.glob("inner/x/.zarray")]))
    body = json.loads(file.read_text())
    if "chunks" in values and file.name == "zarr.json":
        values["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": values.pop("chunks")}}
    file.write_text(json.dumps({**body, **values}))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"shape": [10**6, 10**6]}, r"its array 'inner/x' of shape \(1000000, 1000000\) asks for 4,000,000,000,000"),
        ({"shape": [10, 20], "chunks": [10**5, 10**5]}, "one chunk of its array 'inner/x'"),
        ({"shape": [10**6, 20], "chunks": [1, 1]}, "files for 20,000,000 chunks"),
        ({"shape": [-1, 20]}, "a size is -1"),
        ({"shape": ["a", 20]}, "a size is 'a'"),
        ({"shape": [10]}, "does not go with chunks"),
        ({"chunks": [0, 20]}, "does not go with chunks"),
        ({"shape": 7}, "cannot be read as a Zarr group"),
    ],
)
def test_what_metadata_ask_for_is_bounded(store, values, sentence):
    change(store, **values)
    with pytest.raises(FileFormatError, match=sentence):
        check_zarr(store)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 3000, "{}"])
def test_damaged_metadata_are_one_sentence(store, content):
    next(iter([*store.glob("inner/x/zarr.json"), *store.glob("inner/x/.zarray")])).write_text(content)
    with pytest.raises(AnydiffError, match=r"a\.zarr/inner/x/"):
        check_zarr(store)
