"""The total of a round: the sum of a cohort's messages, before anything of it is released."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fairyring.learning.server import ServerState
from fairyring.rounds.server_program import Sums
from fairyring.secagg import Traffic, Transcript
from fairyring.secagg.server import Phase


@dataclass(frozen=True)
class Exhibit:
    """One client's vector, and what the server received from it: uint32 `[length]` each. Only a simulation has both."""

    clear: np.ndarray
    received: np.ndarray


@dataclass(frozen=True)
class SecureSumResult:
    """The result of a round's secure sum.

    Attributes:
        vector: the sum, uint32 `[length]`; None where the session was aborted.
        count: how many vectors are in it.
        traffic: bytes of all devices together, without the model.
        aborted: the phase in which the server gave up, and why; None if it did not.
        transcript: what anyone may check; None where the session was aborted.
        exhibit: of the first client that sent its input; None where no client did, or none is shown.
    """

    vector: np.ndarray | None
    count: int
    traffic: Traffic
    aborted: tuple[str, str] | None
    transcript: Transcript | None
    exhibit: Exhibit | None

    @property
    def seen(self) -> bool:
        """Whether there is no sum although the server had what it takes to compute one."""
        return self.aborted is not None and self.aborted[0] == Phase.UNMASKING


class Advanced(NamedTuple):
    """What the server half makes of a sum that goes into it as it is.

    Attributes:
        state: the server's state after the round.
        auxiliary: `[weight, means...]` of the reports, float32.
        reported: how many reports are in the sum: an integer scalar.
    """

    state: ServerState
    auxiliary: Any
    reported: Any


class Total(NamedTuple):
    """The sum of a cohort's messages.

    Attributes:
        parts: one sum from each device that computed one, on the server's device.
        faulty: clients whose update was not finite, as far as anybody can know: int64 `[n]`.
        summed: the result of the masked protocol, where it ran. Clients' shares of noise are in its sum.
        advanced: the sum with the server half applied, where the worker has done that too; there are then no parts. Only where the
            plan neither has a budget nor masks.
        seconds_elsewhere: how long the worker was at other rounds when it was asked for this one; negative if it was at this one
            when it was asked for another.
        relative_norms: norms of the finite updates before they were clipped, as multiples of what they were clipped to, float32 `[n]` in no
            order that means anything; None where they are not measured: see `Plan.measures_norms`.
    """

    parts: tuple[Sums, ...]
    faulty: np.ndarray
    summed: SecureSumResult | None = None
    advanced: Advanced | None = None
    seconds_elsewhere: float = 0.0
    relative_norms: np.ndarray | None = None

    @property
    def traffic(self) -> Traffic | None:
        """Bytes of all clients' secure sum, where they were counted."""
        return self.summed.traffic if self.summed else None
