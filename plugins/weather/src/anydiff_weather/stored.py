"""Forecasts that do not fit into memory: anomalies of cases, read from the file when a batch asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Column, Pieces
from anydiff.errors import AnydiffError
from anydiff_weather.seeds import as_tensor

if TYPE_CHECKING:
    from anydiff_weather.domain import Weather


class CaseColumn(Column):
    """Anomalies ``[cases, *shape]`` of fields of a file, normalised as they are read.

    Args:
        data: fields that are not loaded, with the axis ``time``, cases in order.
        domain: codec and climatology.
        axes: ``("time", "number")`` or ``("time",)``.
        what: what they are, for the sentences.
        valid_day: day of the year of each case.
        edges: which cases are read together.
    """

    def __init__(
        self,
        data: xarray.Dataset,
        domain: Weather,
        axes: Sequence[str],
        what: str,
        valid_day: NDArray[np.int64],
        edges: NDArray[np.int64],
    ) -> None:
        self._data, self._domain, self._axes, self._what, self._day = data, domain, axes, what, valid_day
        first = domain.values(data.isel(time=slice(0, 1)), axes, what)  # whatever is wrong with all shows here
        shape = (len(valid_day), *first.shape[1:])
        source = Path(str(data.encoding.get("source", what)))
        super().__init__(source, what, shape, np.float32, edges)

    def _read(self, begin: int, end: int) -> NDArray[Any]:
        values = self._domain.values(self._data.isel(time=slice(begin, end)), self._axes, self._what)
        rows = int(np.prod(values.shape[1 : len(self._axes)], dtype=np.int64))
        flat = values.reshape(-1, *values.shape[len(self._axes) :])
        day = np.repeat(self._day[begin:end], rows)
        return self._domain.climatology.normalise(flat, day).reshape(values.shape)


class BaseDays(Column):
    """What a network is told of the base day of each case, computed when it is asked for."""

    def __init__(self, domain: Weather, base_day: NDArray[np.int64], edges: NDArray[np.int64], like: Column) -> None:
        self._domain, self._day = domain, base_day
        super().__init__(like.path, "climatology", (len(base_day), *domain.spec.shape), np.float32, edges)

    def _read(self, begin: int, end: int) -> NDArray[Any]:
        return self._domain.climatology.base_day_field(self._day[begin:end])


class StoredCases:
    """A column that is indexed as a tensor is, with the numbers of cases first.

    Attributes:
        shape: of all of it.
        dtype: float32.
    """

    dtype = torch.float32

    def __init__(self, column: Column, pieces: Pieces) -> None:
        self.column, self._pieces = column, pieces
        self.shape = torch.Size(column.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:
        case, *others = key if isinstance(key, tuple) else (key,)
        if not isinstance(case, Tensor):
            raise AnydiffError(
                f"{self.column.name} of {str(self.column.path)!r} is read case by case, since it is larger than the "
                "option memory; raise memory where all cases are needed at once, as baselines do."
            )
        return torch.from_numpy(self._pieces.rows(self.column, case.numpy(), *(each.numpy() for each in others)))

    def blocks(self) -> Iterator[Tensor]:
        """All of it, piece by piece."""
        for number in range(len(self.column.edges) - 1):
            yield as_tensor(self.column.piece(number))

    def loaded(self) -> Tensor:
        """All of it in memory."""
        out, begin = torch.empty(self.shape), 0
        for block in self.blocks():
            out[begin : begin + len(block)] = block
            begin += len(block)
        return out


def held(values: Tensor | StoredCases) -> Tensor:
    """``values``, which must be in memory.

    Raises:
        AnydiffError: they are read case by case.
    """
    return values if isinstance(values, Tensor) else values[:]


def edges_of(data: xarray.Dataset, begin: int) -> NDArray[np.int64]:
    """Which cases of ``data`` are stored together, by the chunks of its file; ``begin`` is its first case there."""
    sizes = [field.encoding.get("chunks") or field.encoding.get("chunksizes") for field in data.data_vars.values()]
    axes = [field.dims.index("time") for field in data.data_vars.values()]
    rows = max([int(size[axis]) for size, axis in zip(sizes, axes, strict=True) if size] or [1])
    count = data.sizes["time"]
    inner = np.arange(-(-begin // rows) * rows, begin + count, rows, dtype=np.int64) - begin
    return np.unique(np.concatenate([[0], inner, [count]]))
