"""Intervals and tests, exact or by bootstrap, for audits, evaluation and the ecology.

There are few units of replication (worlds, runs, clients), and their numbers are far from normal. Thousands of individuals with
one history are one observation, so functions take one number for each unit. All random numbers come from an explicit `seed`, so
every number of a report can be reproduced. SciPy is imported when something is computed.
"""

from fairyring.statistics.intervals import (
    Interval,
    bca_interval,
    bootstrap_lower_bound,
    finite_mean,
    interval_text,
    student_interval,
    sums_interval,
)
from fairyring.statistics.proportions import SignFraction, clopper_pearson, clustered_limit, sign_fraction
from fairyring.statistics.ranks import RankTest, cliffs_delta, mann_whitney, pairs_above
from fairyring.statistics.significance import holm, permutation_p, sign_flip_p, sign_rows

__all__ = [
    "Interval",
    "RankTest",
    "SignFraction",
    "bca_interval",
    "bootstrap_lower_bound",
    "cliffs_delta",
    "clopper_pearson",
    "clustered_limit",
    "finite_mean",
    "holm",
    "interval_text",
    "mann_whitney",
    "pairs_above",
    "permutation_p",
    "sign_flip_p",
    "sign_fraction",
    "sign_rows",
    "student_interval",
    "sums_interval",
]
