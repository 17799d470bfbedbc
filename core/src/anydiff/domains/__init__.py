"""Domains: a plugin's codec between its field's own objects and states, and what some of them offer beside it."""

from anydiff.domains.domain import Domain, LabelledArray, Report
from anydiff.domains.measured import Measurement
from anydiff.domains.protocols import (
    Evaluates,
    FixesEntries,
    FixesParts,
    HasCoordinates,
    HasLabelArrays,
    HasUnits,
    LabelsSamples,
    MatchesCases,
    NamesCases,
    TakesObjects,
    TakesScaffold,
)
from anydiff.domains.rewards import Reward, own_units, reward_and_gradient, reward_name, reward_of

__all__ = [
    "Domain",
    "Evaluates",
    "FixesEntries",
    "FixesParts",
    "HasCoordinates",
    "HasLabelArrays",
    "HasUnits",
    "LabelledArray",
    "LabelsSamples",
    "MatchesCases",
    "Measurement",
    "NamesCases",
    "Report",
    "Reward",
    "TakesObjects",
    "TakesScaffold",
    "own_units",
    "reward_and_gradient",
    "reward_name",
    "reward_of",
]
