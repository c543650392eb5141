"""The life of a run, round by round, whoever computes the sums: cohorts, budget, release, records, privacy statement."""

from fairyring.rounds.stopping import EarlyStopping

__all__ = ["EarlyStopping"]
