"""The one contract of this room: what travels, what is known of it beforehand, and what a stage is.

A stage is a pair of pure functions. `encode` runs on the device, on one client's message; `decode` runs on the
server, on the **sum** of the messages of a round. Stages are composed with `chain`: encode in order, decode in
reverse. What is known before any data is seen (length, bounds, bits) is a `Signal`; a stage is bound to the
signal it receives and says what it sends, so that a chain that cannot work is refused when a plan is made.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax


class Message(NamedTuple):
    """What one client sends, or the sum of what many sent.

    `vector` is the update, `[dimension]`; `side` is everything that travels with it, `[len(signal.side)]`:
    first the weight, then the client's means of each metric.
    """

    vector: jax.Array
    side: jax.Array


class Side(NamedTuple):
    """A coordinate beside the update. Its value lies in `[0, bound]`; `bound` is `inf` where none is known."""

    name: str
    bound: float


@dataclass(frozen=True)
class Signal:
    """What is known of a message at one point of a chain, before any data.

    Attributes:
        dimension: length of the vector.
        cohort: the most messages that will ever be summed.
        side: the coordinates beside the update; `side[0]` is the weight.
        l2: bound on the vector's Euclidean norm, or None.
        linf: bound on the size of a coordinate, or None.
        bits: bits a vector coordinate takes on the wire.
        side_bits: bits a side coordinate takes on the wire.
        extra_bits: bits on the wire that belong to no coordinate.
        integer: the vector holds whole numbers (int32).
        modulus_bits: sums are taken modulo `2**modulus_bits` (uint32), or None.
        summable: messages of this form can be added under masks.
    """

    dimension: int
    cohort: int
    side: tuple[Side, ...] = (Side("weight", float("inf")),)
    l2: float | None = None
    linf: float | None = None
    bits: float = 32.0
    side_bits: float = 32.0
    extra_bits: float = 0.0
    integer: bool = False
    modulus_bits: int | None = None
    summable: bool = True

    def but(self, **changes: Any) -> "Signal":
        """This signal with some fields changed."""
        return replace(self, **changes)

    @property
    def bytes(self) -> int:
        """Length of one encoded message on the wire."""
        bits = self.dimension * self.bits + len(self.side) * self.side_bits + self.extra_bits
        return -(-int(bits) // 8)


class Bound(NamedTuple):
    """A stage bound to the signal it receives.

    Attributes:
        signal: what is known of the message after `encode`.
        encode: `(message, client_key, round_key) -> message`, on the device, for one client. `round_key` is
            the same for all clients of a round and known to the server (shared randomness).
        decode: `(summed message, round_key) -> message`, on the server, the inverse on sums.
    """

    signal: Signal
    encode: Callable[[Message, jax.Array, jax.Array], Message]
    decode: Callable[[Message, jax.Array], Message]


@dataclass(frozen=True)
class Stage:
    """One step of aggregation.

    Attributes:
        name: as a plan shows it, such as ``clip(0.5)``.
        bind: `Signal -> Bound`; raises `PlanError` where the stage cannot follow what came before.
        weighting: this stage decides the weight of a client.
        settings: the numbers that define the stage, for the plan's record.
    """

    name: str
    bind: Callable[[Signal], Bound]
    weighting: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    def __repr__(self) -> str:
        return self.name
