"""When a run evaluates, saves a checkpoint and stops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairyring.records.round_record import RoundRecord
from fairyring.rounds.stopping import EarlyStopping

CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True)
class Timetable:
    """When a run does what.

    Attributes:
        rounds: in all.
        evaluate_every: rounds between evaluations.
        checkpoint_every: rounds between checkpoints; None for about every ten seconds.
        stop: by which evaluations it stops early; None for none.
    """

    rounds: int
    evaluate_every: int
    checkpoint_every: int | None = None
    stop: EarlyStopping | None = None

    def evaluates(self, round: int) -> bool:
        """Whether a round is followed by an evaluation; the last one is."""
        return round % self.evaluate_every == 0 or round == self.rounds

    def saves(self, round: int, seconds: float) -> bool:
        """Whether a round is followed by a checkpoint, so long after the last; the last round is."""
        if round == self.rounds:
            return True
        if self.checkpoint_every is not None:
            return round % self.checkpoint_every == 0
        return seconds > CHECKPOINT_SECONDS

    def stops(self, records: Sequence[RoundRecord], declared: Mapping[str, bool]) -> bool:
        """Whether the evaluations so far end the run; `declared` says of each metric whether a larger value is the better one."""
        evaluations = [record.test for record in records if record.test is not None]
        return self.stop is not None and self.stop.judge(evaluations, declared)
