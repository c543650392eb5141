"""The report of a sweep."""

from fairyring.report.sweep.page import document, is_private

__all__ = ["document", "is_private"]
