"""The report of a study of the ecology. It shows what the study decided, and decides nothing."""

from fairyring.report.study.data import Study
from fairyring.report.study.page import document

__all__ = ["Study", "document"]
