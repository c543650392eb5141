"""The contents of a ledger: verified entries, and the reservations that follow from them. No files here."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from fairyring.core.errors import LedgerDamaged, PlanError
from fairyring.core.reading import NotJson, read_json
from fairyring.privacy._entries import (
    AMEND,
    CANCEL,
    LOSE,
    NOTHING,
    PROMISE,
    RELEASE,
    RESERVE,
    WITHHOLD,
    Amending,
    Cancelling,
    Entry,
    Facts,
    Head,
    Losing,
    Promise,
    Promising,
    Releasing,
    Reservation,
    Reserving,
    Withholding,
    is_hash,
)
from fairyring.privacy.release import OfRound, Release, of_round

F = TypeVar("F", bound=Facts)


class History:
    """The verified entries of one ledger, and what follows from them.

    Args:
        name: name of the ledger, for errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: list[Entry] = []
        self.reservations: dict[int, Reservation] = {}
        self._promise: Promise | None = None
        self._spent = Tally()
        self._left: set[tuple[int, str]] = set()
        self._of: dict[int, list[int]] = {}

    @property
    def promise(self) -> Promise:
        """The ledger's promise."""
        if self._promise is None:
            raise self.damaged("no entries", "a promise and what was spent on it")
        return self._promise

    @property
    def head(self) -> Head:
        """The head: number and hash of the last entry."""
        return Head(len(self.entries) - 1, self.entries[-1].hash)

    def contains(self, head: Head) -> bool:
        """Whether this ledger extends the one that had this head, with all its entries unchanged."""
        return 0 <= head.number < len(self.entries) and self.entries[head.number].hash == head.hash

    def check(self, head: Head, whose: str) -> None:
        """Raise `LedgerDamaged` unless this ledger `contains` a head noted earlier."""
        if self.contains(head):
            return
        if head.number >= len(self.entries):
            given = f"{len(self.entries)} entries, where {whose} names entry {head.number}"
            raise self.damaged(
                f"{given}: it was put back to an older copy, or cut", "a ledger that only grows"
            )
        raise self.damaged(
            f"another entry {head.number} than the one {whose} names", "the ledger that was seen then"
        )

    def spent(self, upto: int | None = None) -> "Tally":
        """What counts as spent by all reservations, or by those numbered at most `upto`. Do not modify it."""
        if upto is None:
            return self._spent
        tally = Tally()
        for one in self.reservations.values():
            if one.number <= upto and not one.cancelled:
                tally.add(one.round, one.release)
        return tally

    def of(self, round: int) -> list[Reservation]:
        """All reservations of a round, in order."""
        return [self.reservations[number] for number in self._of.get(round, ())]

    def left(self, round: int, digest: str) -> bool:
        """Whether `round` was released with this digest."""
        return (round, digest) in self._left

    def following(self, kind: str, round: int, facts: Facts, now: float) -> Entry:
        """The next entry, not yet added."""
        time, previous = now, NOTHING
        if self.entries:
            last = self.entries[-1]
            previous = last.hash
            if now < last.time:
                time, facts = last.time, msgspec.structs.replace(facts, clock_back=last.time - now)
        data = msgspec.json.encode(facts).decode()
        entry = Entry(len(self.entries), kind, round, time, data, previous, NOTHING)
        return msgspec.structs.replace(entry, hash=entry.expected())

    def extend(self, entries: Iterable[Entry]) -> None:
        """Verify entries and add them.

        Raises:
            LedgerDamaged: an entry cannot follow those before it; those before it are added.
        """
        for entry in entries:
            self._verify(entry)
            self._apply(entry)
            self.entries.append(entry)

    def damaged(self, given: str, expected: str) -> LedgerDamaged:
        """The error for a ledger that was changed."""
        return LedgerDamaged(
            self.name,
            given=given,
            expected=expected,
            do="Release nothing on its account. Restore the newest copy, or start a new run under a new promise.",
        )

    def _verify(self, entry: Entry) -> None:
        number = len(self.entries)
        if entry.number != number:
            raise self.damaged(f"entry {entry.number} where {number} should be", "no gap between entries")
        last = self.entries[-1] if self.entries else None
        if entry.previous != (last.hash if last else NOTHING):
            raise self.damaged(f"entry {number}, which follows another one", "a chain of hashes")
        if not (is_hash(entry.hash) and entry.hash == entry.expected()):
            raise self.damaged(f"entry {number} with a hash that is not its own", "a chain of hashes")
        if not math.isfinite(entry.time) or (last and entry.time < last.time):
            raise self.damaged(f"entry {number} with an earlier time", "times that never go back")
        if (entry.kind == PROMISE) != (number == 0):
            raise self.damaged(f"entry {number} of kind {entry.kind!r}", "a promise first, and only there")

    def _apply(self, entry: Entry) -> None:
        if entry.kind == PROMISE:
            self._promise = self._facts(entry, Promising).promise
        elif entry.kind == RESERVE:
            release = self._facts(entry, Reserving).release
            number = entry.number
            self.reservations[number] = Reservation(number, entry.round, entry.time, release, release)
            self._of.setdefault(entry.round, []).append(number)
            self._spent.add(entry.round, release)
        elif entry.kind == AMEND:
            facts = self._facts(entry, Amending)
            self._change(entry, facts.reservation, release=facts.release)
        elif entry.kind == WITHHOLD:
            self._change(entry, self._facts(entry, Withholding).reservation, withheld=True)
        elif entry.kind == CANCEL:
            self._change(entry, self._facts(entry, Cancelling).reservation, cancelled=True)
        elif entry.kind == LOSE:
            self._change(entry, self._facts(entry, Losing).reservation, lost=True)
        elif entry.kind == RELEASE:
            facts = self._facts(entry, Releasing)
            self._change(entry, facts.reservation, digest=facts.digest)
            self._left.add((entry.round, facts.digest))
        else:
            raise self.damaged(f"entry {entry.number} of kind {entry.kind!r}", "a known kind")

    def _facts(self, entry: Entry, kind: type[F]) -> F:
        try:
            return read_json(entry.data, kind)
        except (NotJson, PlanError) as error:
            raise self.damaged(f"entry {entry.number} with malformed facts: {error}", "its facts") from error

    def _change(self, entry: Entry, number: int, **changes: object) -> None:
        before = self.reservations.get(number)
        if not before or not before.open or before.round != entry.round:
            raise self.damaged(f"entry {entry.number} of kind {entry.kind!r}", "one of an open reservation")
        after = self.reservations[number] = msgspec.structs.replace(before, **changes)
        if after.release != before.release or after.cancelled:
            self._spent.take(entry.round, before.release)
            if not after.cancelled:
                self._spent.add(entry.round, after.release)


class Tally:
    """What counts as spent: how many rounds released what, and the span from the first to the last of them.

    A round counts with all its releases: a device in the round is in each of them.
    """

    def __init__(self) -> None:
        self._of: dict[int, list[Release]] = {}
        self.counts: Counter[OfRound] = Counter()

    @property
    def rounds(self) -> int:
        """Number of rounds from the first to the last that released something, inclusive."""
        return max(self._of) - min(self._of) + 1 if self._of else 0

    @contextmanager
    def changed(self, round: int, old: Release | None, new: Release) -> Iterator[None]:
        """Context in which a round also has the release `new`, in place of `old` if that is given."""
        before = list(self._of.get(round, []))
        after = [*before, new]
        if old is not None:
            after.remove(old)
        self._put(round, after)
        try:
            yield
        finally:
            self._put(round, before)

    def add(self, round: int, release: Release) -> None:
        """Add a release of a round."""
        self._put(round, [*self._of.get(round, []), release])

    def take(self, round: int, release: Release) -> None:
        """Remove a release of a round."""
        left = list(self._of[round])
        left.remove(release)
        self._put(round, left)

    def _put(self, round: int, releases: list[Release]) -> None:
        if round in self._of:
            kind = of_round(self._of.pop(round))
            self.counts[kind] -= 1
            if not self.counts[kind]:
                del self.counts[kind]
        if releases:
            self._of[round] = releases
            self.counts[of_round(releases)] += 1
