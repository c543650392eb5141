"""The report of a comparison of runs."""

from fairyring.report.comparison.page import document

__all__ = ["document"]
