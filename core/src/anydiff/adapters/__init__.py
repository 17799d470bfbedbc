"""Other libraries' models: what an adapter is, and finding the one that knows a network, a folder or a name."""

from anydiff.adapters.adapter import Adapter, Example, ForeignModel
from anydiff.adapters.find import adapter_named, foreign_source, read_foreign, wrap
from anydiff.adapters.module import ModuleAdapter, denoiser_of

__all__ = [
    "Adapter",
    "Example",
    "ForeignModel",
    "ModuleAdapter",
    "adapter_named",
    "denoiser_of",
    "foreign_source",
    "read_foreign",
    "wrap",
]
