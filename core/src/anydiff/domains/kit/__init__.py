"""What domains and their data sets share: splits, hashes, normalisers, one owner of the domain, optional packages."""

from anydiff.domains.kit.content_hash import Content, content_hash, content_hash_of
from anydiff.domains.kit.normalise import (
    CDF,
    NORMALISERS,
    Gaussian,
    Levels,
    Limits,
    Normaliser,
    Scale,
    SquashedGaussian,
    fit_normaliser,
    make_normaliser,
)
from anydiff.domains.kit.owner import domain_of_data
from anydiff.domains.kit.splits import SPLITS, TENTH, Split, check_split, every_tenth, last_share
from anydiff.optional import missing, require

__all__ = [
    "CDF",
    "NORMALISERS",
    "SPLITS",
    "TENTH",
    "Content",
    "Gaussian",
    "Levels",
    "Limits",
    "Normaliser",
    "Scale",
    "Split",
    "SquashedGaussian",
    "check_split",
    "content_hash",
    "content_hash_of",
    "domain_of_data",
    "every_tenth",
    "fit_normaliser",
    "last_share",
    "make_normaliser",
    "missing",
    "require",
]
