"""What is said of a session when it is opened, by whoever runs a plan, to whoever serves the devices."""

from typing import Any

import msgspec


class SessionFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session of a round.

    Attributes:
        round: its number, from 1.
        manifest: digest of the signed manifest, in hexadecimal digits as all digests here.
        model: digest of the model's bytes, which are a blob.
        earlier: digests of models that devices may still have, for which a change is there: digest -> digest of the change.
        context: digest of the model's arrays, to which a secure sum is bound.
        previous: head of the run's history; None where none is kept.
        shared_key: words of the key of the round's stages.
        reservation: number of the round in the run's ledger; 0 without one.
        invited: public key of each device that is invited -> its place among the run's clients.
        minimum: fewest reports that a sum is made of.
        maximum: most reports; those that come first count.
        seconds: that devices have to report, or to begin a secure sum.
        stage_seconds: that they have for each later message of a secure sum.
    """

    round: int
    manifest: str
    model: str
    earlier: dict[str, str]
    context: str
    previous: str | None
    shared_key: tuple[int, int]
    reservation: int
    invited: dict[str, int]
    minimum: int
    maximum: int
    seconds: float
    stage_seconds: float

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return msgspec.to_builtins(self)

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "SessionFacts":
        """The inverse of `plain`."""
        return msgspec.convert(facts, cls)

    @property
    def places(self) -> dict[bytes, int]:
        """Public key -> place."""
        return {bytes.fromhex(key): place for key, place in self.invited.items()}


class SumOfReports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sum of a session, as it is kept until its round is over.

    Attributes:
        vector: little-endian, as the plan's messages have it.
        auxiliary: float32, of a plain sum; empty under masks.
        transcript: of a secure sum, encoded; empty of a plain one.
        up, down: bytes that all devices sent and received, without the model.
    """

    vector: bytes
    auxiliary: bytes
    transcript: bytes
    up: int
    down: int
