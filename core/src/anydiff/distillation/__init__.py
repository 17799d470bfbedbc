"""Fewer calls from a trained model: students of a teacher's steps, samplers that are tuned as a whole."""

from anydiff.distillation.mmd import MMD, kernel_values, squared_mmd
from anydiff.distillation.progressive import Progressive, halved, two_step_target

__all__ = ["MMD", "Progressive", "halved", "kernel_values", "squared_mmd", "two_step_target"]
