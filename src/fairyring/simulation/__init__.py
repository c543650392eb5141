"""Running a plan on this machine: the compiled engine, its driver, evaluation, and checks of what it left behind."""

from fairyring.simulation.driver import simulate
from fairyring.simulation.evaluate import Evaluation
from fairyring.simulation.run import Run
from fairyring.simulation.stopping import EarlyStopping
from fairyring.simulation.verification import Verified, verify_run

__all__ = ["EarlyStopping", "Evaluation", "Run", "Verified", "simulate", "verify_run"]
