"""The life of a run, round by round, whoever computes the sums: what is spent, released, recorded, said and due."""

from fairyring.rounds.stopping import EarlyStopping

__all__ = ["EarlyStopping"]
