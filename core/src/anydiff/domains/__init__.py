"""Domains: a plugin's codec between its field's own objects and states."""

from anydiff.domains.domain import Domain, LabelledArray, Report

__all__ = ["Domain", "LabelledArray", "Report"]
