"""Guidance: functions from denoiser to denoiser that change the law of the samples (DESIGN 2)."""

from anydiff.guidance.base import Guidance, LinearGuidance, Scale, scale_at
from anydiff.guidance.classifier_free import ClassifierFree, with_and_without
from anydiff.guidance.energy import AutoregressiveEnergy, Energy, EnergyFunction, EnergyRecord
from anydiff.guidance.gradient import LookAhead, MeasuredDirection, NaiveGradient
from anydiff.guidance.score import LogDensity, ScoreGuidance

__all__ = [
    "AutoregressiveEnergy",
    "ClassifierFree",
    "Energy",
    "EnergyFunction",
    "EnergyRecord",
    "Guidance",
    "LinearGuidance",
    "LogDensity",
    "LookAhead",
    "MeasuredDirection",
    "NaiveGradient",
    "Scale",
    "ScoreGuidance",
    "scale_at",
    "with_and_without",
]
