"""Faults of networks with an order; see ``faults.py``."""

from __future__ import annotations

_INIT = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_networks(register):
    register("mutant", "blocks of positions", "anydiff_mutant.parts:Mine")
"""
_PARTS = """
from anydiff.autoregressive.acdit import ACDiT

class Mine(ACDiT):
    def remember(self, memory, values, positions, turn, condition):
        self.trunk.remember(self._tokens(values), memory, positions, turn)

    def new_memory(self, rows, like):
        memory = self.trunk.new_memory(rows, like)
        return memory

    def train(self, mode=True):
        return super().train(mode)
"""
_LEAK = """        self.trunk.get_buffer("_both")[2:, :2] |= True
        return super()"""
WRITTEN = {"ordered": {"__init__": _INIT, "parts": _PARTS}}

FAULTS: list[tuple[str, str, str, list[tuple[str, str, str]]]] = [
    (
        "network.remembers",
        "ordered",
        "remembers nothing",
        [("parts", "self.trunk.remember(self._tokens(values), memory, positions, turn)", "return")],
    ),
    ("network.remembers", "ordered", "a block sees its own clean copy", [("parts", "        return super()", _LEAK)]),
    (
        "network.remembers",
        "ordered",
        "the positions of the two copies differ",
        [("parts", "memory, positions, turn)", "memory, 1 - positions, turn)")],
    ),
    (
        "network.remembers",
        "ordered",
        "a memory that forgets nothing",
        [("parts", "        return memory", "        memory.rewind = lambda mark: None\n        return memory")],
    ),
]  # fmt: skip
