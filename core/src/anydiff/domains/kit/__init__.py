"""What domains and their data sets share: splits, hashes of content, one owner of the domain, optional packages."""

from anydiff.domains.kit.content_hash import Content, content_hash, content_hash_of
from anydiff.domains.kit.owner import domain_of_data
from anydiff.domains.kit.splits import SPLITS, TENTH, Split, check_split, every_tenth, last_share
from anydiff.optional import missing, require

__all__ = [
    "SPLITS",
    "TENTH",
    "Content",
    "Split",
    "check_split",
    "content_hash",
    "content_hash_of",
    "domain_of_data",
    "every_tenth",
    "last_share",
    "missing",
    "require",
]
