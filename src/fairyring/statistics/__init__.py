"""Intervals and tests, exact or a bootstrap, that audits, evaluation and the ecology share.

Units of replication are few (worlds, runs, clients) and their numbers far from normal. Thousands that share one history
are one observation: what is handed in is one number for each unit. Whatever is drawn is drawn from an explicit `seed`, so
every number of a report can be had again. SciPy is imported when something is computed.
"""

from fairyring.statistics.intervals import Interval, bca_interval, bootstrap_lower_bound
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
    "holm",
    "mann_whitney",
    "pairs_above",
    "permutation_p",
    "sign_flip_p",
    "sign_fraction",
    "sign_rows",
]
