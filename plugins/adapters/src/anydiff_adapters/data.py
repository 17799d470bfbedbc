"""Files of arrays as training data, read row by row: they need not fit into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anydiff.data import StoredRows
from anydiff.domains import Domain
from anydiff.errors import AnydiffError
from anydiff_adapters.arrays import Arrays


class ArrayFiles(StoredRows):
    """Rows of a Zarr group, an HDF5, Parquet or ``.npy`` file; every tenth is held out, or the last share.

    The rows are objects of the recipe's domain (pictures as bytes, for instance), and of :class:`Arrays` where the
    recipe names no other.

    Args:
        path: the file; without it the data of a foreign model are not known.
        shape: of one row, where no ``domain`` is given.
        split: ``train`` or ``test``.
        states: the array that holds the states; may be left out where there is one.
        given: name of a condition of the domain -> array that holds it.
        encoded: whether rows are states already, in the network's own units.
        test_share: the last share of the rows is the test split; None: every tenth row.
        memory: megabytes that may be held of the file.
        domain: the recipe's.

    Raises:
        AnydiffError: no path, or what :class:`~anydiff.data.StoredRows` refuses.
    """

    name = "adapters/files"

    def __init__(
        self,
        path: str | None = None,
        shape: Sequence[int] = (),
        split: str = "train",
        *,
        states: str | None = None,
        given: Mapping[str, str] | None = None,
        encoded: bool = False,
        test_share: float | None = None,
        memory: float = 256.0,
        domain: Domain | None = None,
    ) -> None:
        if path is None:
            raise AnydiffError(
                "the data that this model was trained on are not known; set dataset.options.path to a file of rows "
                "(.npy, .zarr, .h5 or .parquet), or choose another data set."
            )
        made = Arrays(shape) if domain is None else domain
        super().__init__(path, made, states, given, encoded=encoded, split=split, test_share=test_share, memory=memory)
