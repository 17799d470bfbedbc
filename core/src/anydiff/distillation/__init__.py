"""Fewer calls from a trained model: students of a teacher's steps, samplers that are tuned as a whole."""

from anydiff.distillation.progressive import Progressive, halved, two_step_target

__all__ = ["Progressive", "halved", "two_step_target"]
