"""Running a plan on this machine: the compiled engine, its driver, evaluation."""

from fairyring.simulation.driver import simulate
from fairyring.simulation.evaluate import Evaluation
from fairyring.simulation.run import Run

__all__ = ["Evaluation", "Run", "simulate"]
