"""Running a plan on this machine: the driver, the compiled engine, the masked protocol in one process."""

from fairyring.simulation.assembly import Assembly, Trial, assemble
from fairyring.simulation.driver import SecureSum, simulate
from fairyring.simulation.elsewhere import Elsewhere, Start
from fairyring.simulation.engine import Engine, assign_to_processors
from fairyring.simulation.feed import ClientRows, Streamed, make_feed
from fairyring.simulation.testing import TestPopulations, Tests
from fairyring.simulation.worker import CompiledWorker

__all__ = [
    "Assembly",
    "ClientRows",
    "CompiledWorker",
    "Elsewhere",
    "Engine",
    "SecureSum",
    "Start",
    "Streamed",
    "TestPopulations",
    "Tests",
    "Trial",
    "assemble",
    "assign_to_processors",
    "make_feed",
    "simulate",
]
