"""Whoever computes a round's sum: a compiled engine, a plain loop to debug in, machines elsewhere."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from fairyring.learning.server import ServerState
from fairyring.rounds.draws import Draw
from fairyring.rounds.spending import RoundNoise
from fairyring.rounds.total import Total


class Work(NamedTuple):
    """A round's work.

    Attributes:
        draw: whose: the clients that stay, and an audit's canaries.
        state: what they start from.
        noise: draws clients' shares, and what noisy local steps need; None where nothing is promised.
        previous: head of the run's history, to which the devices of a masked protocol are bound; None where none is kept.
    """

    draw: Draw
    state: ServerState
    noise: RoundNoise | None = None
    previous: bytes | None = None


class Worker(Protocol):
    """Computes a cohort's part of a round. It knows nothing of ledgers, records and other rounds."""

    def accumulate(self, work: Work) -> Total:
        """The sum of all messages. New states of clients are kept where the worker keeps them."""
        ...

    def encoded(
        self, work: Work, faulty: list[np.ndarray], *, keep: bool = True
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Each client's encoded vector by itself, `(client, [length])`, canaries last.

        Args:
            work: the round's.
            faulty: clients whose update is not finite are added to it, as they come.
            keep: new states of clients are kept; else this is a look ahead, and the round is still to be computed.
        """
        ...

    def warm(self, state: ServerState, number: int) -> Total:
        """Compile what rounds after round `number` need; returns the total of nobody."""
        ...
