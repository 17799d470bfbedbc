"""Measures the memory of calls of a model in a process that does nothing else; see :mod:`anydiff.pipeline.cost`."""

from __future__ import annotations

import json
import sys

from anydiff.compression.cost import peak_memory


def main(source: str, batches: list[int]) -> dict[int, int]:
    """Rows of a call -> bytes of it at its peak, inputs included and parameters not."""
    from anydiff.pipeline import load
    from anydiff.pipeline.cost import network_call

    pipeline = load(source)
    calls = {rows: network_call(pipeline, rows) for rows in batches}
    return {rows: peak_memory(call) + call.input_bytes for rows, call in calls.items()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], [int(rows) for rows in sys.argv[2:]])))
