"""The report of a study of the ecology. It shows the verdicts of the study and makes none."""

from fairyring.report.study.data import Study
from fairyring.report.study.page import document

__all__ = ["Study", "document"]
