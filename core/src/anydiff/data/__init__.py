"""Where data comes from: the ledger of origins and licences, the cache of containers, and the archives' readers.

Nothing here knows a domain, and nothing imports torch but what data sets derive from, which is loaded on first use.
"""

from typing import TYPE_CHECKING

from anydiff.data.cache import cached_container, data_folder, is_cached
from anydiff.data.containers import read_members
from anydiff.data.ledger import Container, LedgerRow, ledger, ledger_row
from anydiff.exports import on_demand

if TYPE_CHECKING:
    from anydiff.data.arrays import read_array
    from anydiff.data.bridge import Bridge
    from anydiff.data.columns import Column, Pieces, open_columns
    from anydiff.data.dataset import ArrayDataset, Dataset, Occasion, overlapping
    from anydiff.data.hdf5 import check_hdf5
    from anydiff.data.pairs import (
        Degradation,
        Pairs,
        degradation_of,
        encode_inputs,
        input_condition,
        read_inputs,
        restoring,
    )
    from anydiff.data.pseudo_labels import PseudoLabelled, rewarded
    from anydiff.data.stored import StoredRows
    from anydiff.data.zarr_store import check_chunks, check_zarr

__getattr__ = on_demand(
    __name__,
    {
        "ArrayDataset": "anydiff.data.dataset",
        "Bridge": "anydiff.data.bridge",
        "Dataset": "anydiff.data.dataset",
        "Column": "anydiff.data.columns",
        "Degradation": "anydiff.data.pairs",
        "Pairs": "anydiff.data.pairs",
        "Pieces": "anydiff.data.columns",
        "open_columns": "anydiff.data.columns",
        "Occasion": "anydiff.data.dataset",
        "StoredRows": "anydiff.data.stored",
        "PseudoLabelled": "anydiff.data.pseudo_labels",
        "check_chunks": "anydiff.data.zarr_store",
        "check_hdf5": "anydiff.data.hdf5",
        "check_zarr": "anydiff.data.zarr_store",
        "degradation_of": "anydiff.data.pairs",
        "overlapping": "anydiff.data.dataset",
        "read_array": "anydiff.data.arrays",
        "encode_inputs": "anydiff.data.pairs",
        "input_condition": "anydiff.data.pairs",
        "read_inputs": "anydiff.data.pairs",
        "restoring": "anydiff.data.pairs",
        "rewarded": "anydiff.data.pseudo_labels",
    },
)

__all__ = [
    "ArrayDataset",
    "Bridge",
    "Column",
    "Container",
    "Dataset",
    "Degradation",
    "LedgerRow",
    "Occasion",
    "Pairs",
    "Pieces",
    "PseudoLabelled",
    "StoredRows",
    "cached_container",
    "check_chunks",
    "check_hdf5",
    "check_zarr",
    "data_folder",
    "degradation_of",
    "encode_inputs",
    "input_condition",
    "is_cached",
    "ledger",
    "ledger_row",
    "open_columns",
    "overlapping",
    "read_array",
    "read_inputs",
    "read_members",
    "restoring",
    "rewarded",
]
