"""The outer loop of every autoregressive model: groups of positions one after the other, an inner sampler per group."""

from anydiff.autoregressive.blocks import BlockPlan, BlockSampler, Budget, PlanPerGroup, compile_blocks
from anydiff.autoregressive.cspd import Chain, Speculated, speculate
from anydiff.autoregressive.heads import DiffusionHead, GaussianHead, SoftmaxHead, TokenHead, TokenKeys
from anydiff.autoregressive.loop import Drawn, Group, Inner, Rollout, fill
from anydiff.autoregressive.paths import DrawnPath, PathLaw, PathPair
from anydiff.autoregressive.rollout import Context, Draw, rollout
from anydiff.autoregressive.sampled import Sampled
from anydiff.autoregressive.speculative import Densities, Pair, Tables, Verdict, inverse_cdf, verify

__all__ = [
    "BlockPlan",
    "BlockSampler",
    "Budget",
    "Chain",
    "Context",
    "Densities",
    "DiffusionHead",
    "Draw",
    "Drawn",
    "DrawnPath",
    "GaussianHead",
    "Group",
    "Inner",
    "Pair",
    "PathLaw",
    "PathPair",
    "PlanPerGroup",
    "Rollout",
    "Sampled",
    "SoftmaxHead",
    "Speculated",
    "Tables",
    "TokenHead",
    "TokenKeys",
    "Verdict",
    "compile_blocks",
    "fill",
    "inverse_cdf",
    "rollout",
    "speculate",
    "verify",
]
