"""Guidance: functions from denoiser to denoiser (DESIGN 2)."""

from anydiff.guidance.base import Guidance, GuidedDenoiser, apply_guidance
from anydiff.guidance.classifier_free import ClassifierFree
from anydiff.guidance.thresholding import Clamp, DynamicThreshold
from anydiff.guidance.time_shift import TimeShift

__all__ = [
    "Clamp",
    "ClassifierFree",
    "DynamicThreshold",
    "Guidance",
    "GuidedDenoiser",
    "TimeShift",
    "apply_guidance",
]
