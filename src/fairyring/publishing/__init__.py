"""From a plan to what devices need of it: a signed manifest, and the plan's programs for their processors."""

from fairyring.publishing.compiling import TARGETS, compiled_for, targets_of_this_machine
from fairyring.publishing.package import Package, package

__all__ = ["TARGETS", "Package", "compiled_for", "package", "targets_of_this_machine"]
