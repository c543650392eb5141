"""The contents of a ledger: a promise, and entries chained by hashes.

The hash of an entry is SHA-256 over

    "fairyring/ledger/1" 00 | number | round | time | len(kind) | kind | len(data) | data | previous hash

with integers as eight bytes and the time as an IEEE double, all little-endian, so that no two entries have the same
encoding. `data` is the entry's facts as JSON, hashed as it is stored.
"""

import hashlib
import math
import struct
from typing import Self

import msgspec

from fairyring.core.errors import PlanError, PrivacyError
from fairyring.privacy.participation import AnyParticipation
from fairyring.privacy.release import Release

_DOMAIN = b"fairyring/ledger/1\0"
NOTHING = "0" * 64
PROMISE, RESERVE, RELEASE = "promise", "reserve", "release"
AMEND, WITHHOLD, CANCEL, LOSE = "amend", "withhold", "cancel", "lose"


class Promise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run promises, and to whom.

    Attributes:
        plan: digest of the plan, hexadecimal.
        epsilon: what all releases together may spend; infinite if spending is only recorded.
        delta: the delta at which epsilon holds.
        participation: assumption on who takes part in which rounds.
        unit: `"device"` or `"example"`: whose data is protected.

    Raises:
        PlanError: epsilon or delta is out of range.
    """

    plan: str
    epsilon: float
    delta: float
    participation: AnyParticipation
    unit: str = "device"

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0 and 0 <= self.delta < 1):
            raise PlanError(
                "a privacy budget",
                given=f"epsilon {self.epsilon}, delta {self.delta}",
                expected="epsilon of at least 0, delta of at least 0 and below 1",
                do="Give both, for instance epsilon 2 and delta 1e-6.",
            )


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last entry of a ledger at some time. Whoever keeps it can later check that the ledger only grew.

    Attributes:
        number: the entry's number.
        hash: its hash, 64 hexadecimal digits.
    """

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The head from its text form, `NUMBER:HASH`.

        Raises:
            PrivacyError: the text is not a head.
        """
        number, _, digits = text.strip().partition(":")
        if not (number.isascii() and number.isdecimal() and is_hash(digits.lower())):
            raise PrivacyError(
                "a ledger's head",
                given=repr(text),
                expected="NUMBER:HASH, the hash of 64 hexadecimal digits",
                do="Give it as `fairyring ledger` printed it.",
            )
        return cls(int(number), digits.lower())


class Entry(msgspec.Struct, frozen=True):
    """One entry as it is stored.

    Attributes:
        number: counted from 0; entry 0 is the promise.
        kind: `promise`, `reserve`, `amend`, `withhold`, `cancel`, `lose` or `release`.
        round: the round it is about; -1 for the promise.
        time: seconds since 1970 (UTC); never before the previous entry's. If the clock had gone back, the facts say by
            how many seconds, as `clock_back`.
        data: the entry's facts, as JSON.
        previous: hash of the previous entry, hexadecimal.
        hash: hash of this entry, hexadecimal.
    """

    number: int
    kind: str
    round: int
    time: float
    data: str
    previous: str
    hash: str

    def expected(self) -> str:
        """The hash that follows from the other fields."""
        kind, data = self.kind.encode(), self.data.encode()
        state = hashlib.sha256(_DOMAIN)
        state.update(struct.pack("<qqd", self.number, self.round, self.time))
        for part in (kind, data):
            state.update(len(part).to_bytes(8, "little") + part)
        state.update(bytes.fromhex(self.previous))
        return state.hexdigest()


class Reservation(msgspec.Struct, frozen=True):
    """A reserved release and its current state.

    Attributes:
        number: number of the entry that reserved it.
        round: round of the run.
        time: when it was reserved.
        reserved: the release as it was reserved.
        release: the release that counts as spent: as reserved, or as last amended.
        digest: SHA-256 of what was released, hexadecimal; None if no release was noted.
        withheld: its amendment did not fit the budget, so nothing may be released on it.
        cancelled: nothing was released and nothing will be; it does not count as spent.
        lost: the process that made it is gone, so nothing more may be released on it; it counts as spent.
    """

    number: int
    round: int
    time: float
    reserved: Release
    release: Release
    digest: str | None = None
    withheld: bool = False
    cancelled: bool = False
    lost: bool = False

    @property
    def open(self) -> bool:
        """Whether something may still be released on it."""
        return not (self.digest or self.withheld or self.cancelled or self.lost)

    @property
    def amended(self) -> bool:
        """Whether it was amended."""
        return self.release != self.reserved


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Facts of any entry: by how many seconds the clock was behind the previous entry."""

    clock_back: float = 0.0


class Reserving(Facts, frozen=True):
    """Facts of a `reserve` entry."""

    release: Release


class Amending(Facts, frozen=True):
    """Facts of an `amend` entry."""

    reservation: int
    release: Release


class Withholding(Facts, frozen=True):
    """Facts of a `withhold` entry."""

    reservation: int


class Cancelling(Facts, frozen=True):
    """Facts of a `cancel` entry."""

    reservation: int


class Losing(Facts, frozen=True):
    """Facts of a `lose` entry."""

    reservation: int


class Releasing(Facts, frozen=True):
    """Facts of a `release` entry."""

    reservation: int
    digest: str


class Promising(Facts, frozen=True):
    """Facts of the first entry. A missing epsilon means infinite, which JSON cannot express."""

    plan: str
    epsilon: float | None
    delta: float
    participation: AnyParticipation
    unit: str

    @classmethod
    def of(cls, promise: Promise) -> Self:
        epsilon = None if math.isinf(promise.epsilon) else promise.epsilon
        return cls(
            plan=promise.plan,
            epsilon=epsilon,
            delta=promise.delta,
            participation=promise.participation,
            unit=promise.unit,
        )

    @property
    def promise(self) -> Promise:
        epsilon = math.inf if self.epsilon is None else self.epsilon
        return Promise(self.plan, epsilon, self.delta, self.participation, self.unit)


def is_hash(text: str) -> bool:
    """Whether it is a SHA-256 digest in hexadecimal."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")
