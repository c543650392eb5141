"""The total of a round: the sum of a cohort's messages, before anything of it is released."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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


class Total(NamedTuple):
    """The sum of a cohort's messages.

    Attributes:
        parts: one sum from each device that computed one, on the server's device.
        faulty: clients whose update was not finite, as far as anybody can know: int64 `[n]`.
        summed: the result of the masked protocol, where it ran. Clients' shares of noise are in its sum.
    """

    parts: tuple[Sums, ...]
    faulty: np.ndarray
    summed: SecureSumResult | None = None

    @property
    def traffic(self) -> Traffic | None:
        """Bytes of all clients' secure sum, where they were counted."""
        return self.summed.traffic if self.summed else None
