"""Sweeps: a plan with many settings, each with many seeds, compared on clients that took no part in the choice."""

from fairyring.sweeps.results import SWEEP, Sweep, SweepRun, read_sweep
from fairyring.sweeps.running import sweep

__all__ = ["SWEEP", "Sweep", "SweepRun", "read_sweep", "sweep"]
