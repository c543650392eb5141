"""Conclusions: whether chemotaxis evolved, which rewards evolved, whether a population is viable, who excludes whom.

The unit of replication is a world or a jar, never an individual. A verdict is made here once; studies store it, and reports and
the command line show it.
"""

from fairyring.ecology.analysis.competition import (
    LEVEL,
    VERDICTS,
    Contest,
    Controls,
    Pair,
    Standing,
    contests,
    log_odds,
    standing,
    unsaturated,
    within_reach,
)
from fairyring.ecology.analysis.controls import FEWEST_CONTROLS, decide_worlds, refuse_other_controls
from fairyring.ecology.analysis.decisions import (
    Criterion,
    Decision,
    ErrorRate,
    WorldAssay,
    asked_of,
    chemotaxis_in_configuration,
    chemotaxis_in_world,
    control_limit,
    error_rate,
)
from fairyring.ecology.analysis.niches import Overlap, niche_overlap, overlap
from fairyring.ecology.analysis.rewards import RewardRow, reward_table
from fairyring.ecology.analysis.viability import QUIET_GENERATIONS, viability
from fairyring.ecology.analysis.yields import relative_yield_total

__all__ = [
    "FEWEST_CONTROLS",
    "LEVEL",
    "QUIET_GENERATIONS",
    "VERDICTS",
    "Contest",
    "Controls",
    "Criterion",
    "Decision",
    "ErrorRate",
    "Overlap",
    "Pair",
    "RewardRow",
    "Standing",
    "WorldAssay",
    "asked_of",
    "chemotaxis_in_configuration",
    "chemotaxis_in_world",
    "contests",
    "control_limit",
    "decide_worlds",
    "error_rate",
    "log_odds",
    "niche_overlap",
    "overlap",
    "refuse_other_controls",
    "relative_yield_total",
    "reward_table",
    "standing",
    "unsaturated",
    "viability",
    "within_reach",
]
