"""What domains and their data sets share: splits, optional packages."""

from anydiff.domains.kit.splits import SPLITS, TENTH, Split, check_split, every_tenth, last_share
from anydiff.optional import missing, require

__all__ = ["SPLITS", "TENTH", "Split", "check_split", "every_tenth", "last_share", "missing", "require"]
