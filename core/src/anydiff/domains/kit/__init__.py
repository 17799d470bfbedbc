"""What domains and their data sets share: splits."""

from anydiff.domains.kit.splits import SPLITS, TENTH, Split, check_split, every_tenth, last_share

__all__ = ["SPLITS", "TENTH", "Split", "check_split", "every_tenth", "last_share"]
