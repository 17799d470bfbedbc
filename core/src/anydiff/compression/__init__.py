"""What a network costs, and how it is made to cost less: multiply-adds, latency, memory; integer weights."""

from anydiff.compression.cost import Latency, MultiplyAdds, interleaved_seconds, multiply_adds, peak_memory
from anydiff.compression.post_training import Decided, QuantiseOptions, between_ends, decided, finite_set
from anydiff.compression.quantised import Quantised
from anydiff.compression.reconstruction import Effort
from anydiff.compression.temporal import Calibration, NetworkInput, found_layers, recorded

__all__ = [
    "Calibration",
    "Decided",
    "Effort",
    "Latency",
    "MultiplyAdds",
    "NetworkInput",
    "QuantiseOptions",
    "Quantised",
    "between_ends",
    "decided",
    "finite_set",
    "found_layers",
    "interleaved_seconds",
    "multiply_adds",
    "peak_memory",
    "recorded",
]
