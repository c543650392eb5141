"""Running a plan on this machine: the compiled engine, its driver, evaluation, and checks of what it left behind."""

from fairyring.simulation.audit_run import Audited, audit_run
from fairyring.simulation.driver import simulate
from fairyring.simulation.evaluate import Evaluation
from fairyring.simulation.run import Run
from fairyring.simulation.shadows import membership
from fairyring.simulation.stopping import EarlyStopping
from fairyring.simulation.verification import Verified, verify_run

__all__ = [
    "Audited",
    "EarlyStopping",
    "Evaluation",
    "Run",
    "Verified",
    "audit_run",
    "membership",
    "simulate",
    "verify_run",
]
