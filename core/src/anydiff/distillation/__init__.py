"""Fewer calls from a trained model: students of a teacher's steps, samplers that are tuned as a whole."""

from anydiff.distillation.mmd import MMD, kernel_values, squared_mmd
from anydiff.distillation.progressive import Progressive, halved, two_step_target
from anydiff.distillation.spectral import Spectral

__all__ = ["MMD", "Progressive", "Spectral", "halved", "kernel_values", "squared_mmd", "two_step_target"]
