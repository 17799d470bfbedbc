"""The IDX format of MNIST and its relatives: big-endian header (two zero bytes, type, rank, sizes), then raw bytes.

Source: the format's description on the MNIST page (LeCun, Cortes, Burges). Only unsigned bytes (type 0x08) are read.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import FileFormatError


def parse_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """The array in IDX ``content`` (gzip-compressed or plain); ``name`` is used in error messages.

    Raises:
        FileFormatError: foreign, truncated or over-long content, or a type other than unsigned bytes.
    """
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise FileFormatError(f"{name!r} is a truncated or damaged gzip file ({error}); fetch it again.") from error
    if len(content) < 4 or content[:2] != b"\x00\x00":
        raise FileFormatError(f"{name!r} is no IDX file (it does not begin with two zero bytes); check the path.")
    if content[2] != 0x08:
        raise FileFormatError(f"{name!r} holds IDX type 0x{content[2]:02x}, but only unsigned bytes (0x08) are read.")
    rank = content[3]
    start = 4 + 4 * rank
    if rank == 0 or len(content) < start:
        raise FileFormatError(f"{name!r} ends inside its IDX header of rank {rank}; fetch it again.")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise FileFormatError(
            f"{name!r} holds {len(content) - start} bytes of data, but its header says {math.prod(shape)}; "
            "fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def write_idx(array: NDArray[np.uint8]) -> bytes:
    """``array`` as plain IDX bytes; the inverse of :func:`parse_idx`."""
    return struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape) + np.ascontiguousarray(array).tobytes()
