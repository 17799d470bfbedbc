"""Hashes of data: what they are made of decides them, how it lies in memory does not."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import anydiff
from anydiff.domains.kit import Content, content_hash, content_hash_of

REPOSITORY = Path(anydiff.__file__).parents[3]


def test_texts_files_and_arrays_are_hashed_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"file")
    numbers = np.arange(3, dtype="<i4")
    expected = hashlib.sha256("ß".encode() + b"file" + b"raw" + numbers.tobytes() + numbers.tobytes()).hexdigest()
    parts: list[Content] = ["ß", tmp_path / "a", b"raw", numbers, torch.from_numpy(numbers)]
    assert content_hash(*parts) == content_hash_of(iter(parts)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_the_order_in_memory_is_no_content(dtype: torch.dtype) -> None:
    values = torch.tensor([[0, 1, 0], [1, 1, 0]]).to(dtype)
    across = values.T.contiguous().T
    assert not across.is_contiguous()
    assert content_hash(across) == content_hash(values)
    assert content_hash(values.T) != content_hash(values)
    assert content_hash(np.asfortranarray(np.eye(3, 2))) == content_hash(np.eye(3, 2))


def test_scalars_and_empty_arrays_have_a_hash() -> None:
    assert content_hash(torch.tensor(1.0)) == content_hash(np.float32(1).tobytes())
    assert content_hash(torch.empty(0, 3)) == content_hash("")


def test_no_plugin_hashes_data_by_hand() -> None:
    files = (REPOSITORY / "plugins").rglob("src/**/*.py")
    assert not [str(file) for file in files if re.search(r"hashlib\.sha\d", file.read_text())]
