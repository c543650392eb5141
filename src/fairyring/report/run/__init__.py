"""The report of a run folder."""

from fairyring.report.run.page import document
from fairyring.report.run.reported_run import ReportedRun

__all__ = ["ReportedRun", "document"]
