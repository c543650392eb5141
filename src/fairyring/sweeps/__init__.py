"""Sweeps: a plan with many settings, each with many seeds, compared on clients that took no part in the choice.

`sweep` is imported on first use: reading what came of one needs no JAX.
"""

from typing import TYPE_CHECKING, Any

from fairyring.sweeps.comparison import ComparedRun, ComparedSetting, Comparison, compare
from fairyring.sweeps.results import SWEEP, Sweep, SweepRun, read_sweep

if TYPE_CHECKING:
    from fairyring.sweeps.running import sweep

__all__ = [
    "SWEEP",
    "ComparedRun",
    "ComparedSetting",
    "Comparison",
    "Sweep",
    "SweepRun",
    "compare",
    "read_sweep",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name != "sweep":
        raise AttributeError(f"module 'fairyring.sweeps' has no attribute {name!r}")
    from fairyring.sweeps.running import sweep

    globals()[name] = sweep
    return sweep
