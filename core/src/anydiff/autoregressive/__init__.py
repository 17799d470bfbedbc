"""The outer loop of every autoregressive hybrid: elements one block after the other, an inner sampler per block."""

from anydiff.autoregressive.rollout import Context, Draw, Rollout, rollout
from anydiff.autoregressive.sampled import Sampled

__all__ = ["Context", "Draw", "Rollout", "Sampled", "rollout"]
