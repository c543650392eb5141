"""Checks of a run afterwards: attacks on what it sent, and verification that its folder is as it was written."""

from fairyring.audit.audit_run import Audited, audit_run
from fairyring.audit.shadows import membership
from fairyring.audit.verification import Verified, verify_run

__all__ = ["Audited", "Verified", "audit_run", "membership", "verify_run"]
