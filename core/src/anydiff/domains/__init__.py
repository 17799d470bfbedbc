"""Domains: a plugin's codec between its field's own objects and states, and what some of them offer beside it."""

from anydiff.domains.domain import Domain, LabelledArray, Report
from anydiff.domains.protocols import (
    Evaluates,
    FixesEntries,
    HasCoordinates,
    HasLabelArrays,
    LabelsSamples,
    MatchesCases,
    NamesCases,
    TakesScaffold,
)

__all__ = [
    "Domain",
    "Evaluates",
    "FixesEntries",
    "HasCoordinates",
    "HasLabelArrays",
    "LabelledArray",
    "LabelsSamples",
    "MatchesCases",
    "NamesCases",
    "Report",
    "TakesScaffold",
]
