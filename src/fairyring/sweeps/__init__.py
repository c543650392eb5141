"""Sweeps: a plan with many settings, each with many seeds, compared on clients that took no part in the choice.

`sweep` and `settings_of` are imported on first use: reading what came of one needs no JAX.
"""

from typing import TYPE_CHECKING, Any

from fairyring.sweeps.comparison import ComparedRun, ComparedSetting, Comparison, compare
from fairyring.sweeps.results import SWEEP, Sweep, SweepRun, read_sweep

if TYPE_CHECKING:
    from fairyring.sweeps.running import sweep
    from fairyring.sweeps.settings import Setting, settings_of

__all__ = [
    "SWEEP",
    "ComparedRun",
    "ComparedSetting",
    "Comparison",
    "Setting",
    "Sweep",
    "SweepRun",
    "compare",
    "read_sweep",
    "settings_of",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name == "sweep":
        from fairyring.sweeps.running import sweep as found
    elif name == "settings_of":
        from fairyring.sweeps.settings import settings_of as found
    elif name == "Setting":
        from fairyring.sweeps.settings import Setting as found
    else:
        raise AttributeError(f"module 'fairyring.sweeps' has no attribute {name!r}")
    globals()[name] = found
    return found
