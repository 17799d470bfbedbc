"""What a network costs, and how it is made to cost less: multiply-adds, latency, memory; quantisation (DESIGN 14)."""

from anydiff.compression.cost import Latency, MultiplyAdds, interleaved_seconds, multiply_adds, peak_memory
from anydiff.compression.quantised import Quantised

__all__ = ["Latency", "MultiplyAdds", "Quantised", "interleaved_seconds", "multiply_adds", "peak_memory"]
