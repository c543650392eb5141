"""The interface of whatever computes a round's sum: a compiled engine, a plain loop for debugging, other machines."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from fairyring.learning.server import ServerState
from fairyring.rounds.cohorts import RoundCohort
from fairyring.rounds.spending import RoundNoise
from fairyring.rounds.total import Total


class Work(NamedTuple):
    """What is to be computed for a round.

    Attributes:
        cohort: the round's clients, and an audit's canaries.
        state: the server's state, from which they start.
        noise: draws clients' shares of noise, and what noisy local steps need; None without a privacy guarantee.
        previous: head of the run's history, to which the devices of the masked protocol are bound; None where none is kept.
    """

    cohort: RoundCohort
    state: ServerState
    noise: RoundNoise | None = None
    previous: bytes | None = None


class Worker(Protocol):
    """Computes a cohort's part of a round. It knows nothing of ledgers, records or other rounds.

    Attributes:
        parts: how many partial sums its totals have; 0 where it also computes the server's half.
    """

    parts: int

    def accumulate(self, work: Work) -> Total:
        """The sum of all messages. The worker keeps the clients' new states."""
        ...

    def encoded(
        self, work: Work, faulty: list[np.ndarray], *, keep: bool = True
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Each client's encoded vector by itself, `(client, [length])`, canaries last.

        Args:
            work: of the round.
            faulty: arrays of clients whose update is not finite are appended to it.
            keep: whether the clients' new states are kept; if not, the round is still to be computed.
        """
        ...

    def warm(self, state: ServerState, number: int) -> Total:
        """Compile what the rounds after round `number` need; returns the total of nobody."""
        ...
