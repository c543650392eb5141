"""The report of a run folder."""

from fairyring.report.run.folder import RunFolder
from fairyring.report.run.page import document

__all__ = ["RunFolder", "document"]
