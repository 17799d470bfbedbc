"""Where data comes from: the ledger of origins and licences, the cache of containers, and the archives' readers.

Nothing here knows a domain, and nothing imports torch.
"""

from anydiff.data.cache import cached_container, data_folder, is_cached
from anydiff.data.containers import read_members
from anydiff.data.ledger import Container, LedgerRow, ledger, ledger_row

__all__ = [
    "Container",
    "LedgerRow",
    "cached_container",
    "data_folder",
    "is_cached",
    "ledger",
    "ledger_row",
    "read_members",
]
