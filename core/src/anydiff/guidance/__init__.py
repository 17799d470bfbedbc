"""Guidance: functions from denoiser to denoiser (DESIGN 2)."""

from anydiff.guidance.base import Guidance, GuidedDenoiser, Scale, apply_guidance, scale_at
from anydiff.guidance.classifier_free import ClassifierFree
from anydiff.guidance.known import KnownEntries
from anydiff.guidance.present import PresentNodes
from anydiff.guidance.score import LogDensity, ScoreGuidance
from anydiff.guidance.thresholding import Clamp, DynamicThreshold
from anydiff.guidance.time_shift import TimeShift
from anydiff.guidance.windows import Windows, sweep

__all__ = [
    "Clamp",
    "ClassifierFree",
    "DynamicThreshold",
    "Guidance",
    "GuidedDenoiser",
    "KnownEntries",
    "LogDensity",
    "PresentNodes",
    "Scale",
    "ScoreGuidance",
    "TimeShift",
    "Windows",
    "apply_guidance",
    "scale_at",
    "sweep",
]
