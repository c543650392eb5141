"""What a run does beside its rounds, and when: evaluate, save a checkpoint, stop."""

from dataclasses import dataclass

CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True)
class Timetable:
    """When a run does what.

    Attributes:
        rounds: in all.
        evaluate_every: rounds between evaluations.
        checkpoint_every: rounds between checkpoints; None for about every ten seconds.
    """

    rounds: int
    evaluate_every: int
    checkpoint_every: int | None = None

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
