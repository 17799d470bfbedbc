"""The outer loop of every autoregressive model: groups of positions one after the other, an inner sampler per group."""

from anydiff.autoregressive.blocks import BlockPlan, BlockSampler, Budget, PlanPerGroup, compile_blocks
from anydiff.autoregressive.loop import Drawn, Group, Inner, Rollout, fill
from anydiff.autoregressive.rollout import Context, Draw, rollout
from anydiff.autoregressive.sampled import Sampled

__all__ = [
    "BlockPlan",
    "BlockSampler",
    "Budget",
    "Context",
    "Draw",
    "Drawn",
    "Group",
    "Inner",
    "PlanPerGroup",
    "Rollout",
    "Sampled",
    "compile_blocks",
    "fill",
    "rollout",
]
