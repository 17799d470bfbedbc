"""What goes around a denoiser and is no guidance: limits, known entries, absent nodes, windows, shifted times."""

from anydiff.denoisers.wrappers.base import WrappedDenoiser, Wrapper, bent, wrapped
from anydiff.denoisers.wrappers.counting import CountingDenoiser
from anydiff.denoisers.wrappers.known import KnownEntries
from anydiff.denoisers.wrappers.present import PresentNodes
from anydiff.denoisers.wrappers.sharpened import Nucleus, Sharpened, TopK
from anydiff.denoisers.wrappers.thresholding import Clamp, DynamicThreshold
from anydiff.denoisers.wrappers.time_shift import TimeShift
from anydiff.denoisers.wrappers.windows import Windows, sweep

__all__ = [
    "Clamp",
    "CountingDenoiser",
    "DynamicThreshold",
    "KnownEntries",
    "Nucleus",
    "PresentNodes",
    "Sharpened",
    "TimeShift",
    "TopK",
    "Windows",
    "WrappedDenoiser",
    "Wrapper",
    "bent",
    "sweep",
    "wrapped",
]
