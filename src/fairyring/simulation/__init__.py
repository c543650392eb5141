"""Running a plan on this machine: the driver, the compiled engine, the masked protocol in one process."""

from fairyring.simulation.assembly import Assembly, Trial, assemble
from fairyring.simulation.driver import SecureSum, simulate
from fairyring.simulation.worker import CompiledWorker

__all__ = ["Assembly", "CompiledWorker", "SecureSum", "Trial", "assemble", "simulate"]
