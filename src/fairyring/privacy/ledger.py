"""The ledger: an append-only record of what a run has spent, which cannot be rolled back unnoticed.

A release is reserved before anything is computed from the data, and marked as released when it leaves. A reservation counts
as spent, whatever happens in between. Spending is counted by rounds with all their releases: one release each, or more if
a round was run again after a crash, since a crashed round counts as released. Each entry contains the hash of the previous
one (see `Entry`). Several processes may write one ledger: each reservation is counted, checked against the budget and
written in one transaction.

A chain of hashes cannot show that its end is missing. Nor does it contain a secret: whoever can write the file can also
write a new one from the beginning. So heads are kept, `(number, hash)` of the last entry:

- in `ledger.head`, next to `ledger.sqlite`. It shows if the database alone was truncated, replaced or restored from an older
  copy. If it is missing, the ledger counts as damaged, unless a head from elsewhere is given as `anchor`;
- in the `witness`, a file in another place, if one is given. **If the whole folder is restored from an older copy, only a
  head kept outside it can show that.** A snapshot of a machine restores everything on it, so the witness is best kept on
  another machine;
- wherever else somebody notes `head`: in a checkpoint, with a peer, on paper. `check` and `contains` compare them.

After a crash a head file may be one entry behind, but never ahead; it is updated when the ledger is opened.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

import msgspec

from fairyring.core.errors import BudgetSpent, LedgerMismatch, PlanError, PrivacyError
from fairyring.privacy import _entries
from fairyring.privacy._entries import Entry, Head, Promise, Reservation
from fairyring.privacy._history import History, Tally
from fairyring.privacy._ledger_file import LedgerFile, check_heads, head_files
from fairyring.privacy.release import OfRound, Release

__all__ = ["Entry", "Head", "History", "Ledger", "Meter", "Promise", "Reservation", "Tally"]


class Spending(Protocol):
    """What an accountant reports as spent."""

    @property
    def epsilon(self) -> float: ...


class Meter(Protocol):
    """An accountant that composes releases."""

    def fits(self, counts: Mapping[OfRound, int], epsilon: float, rounds: int) -> bool:
        """Whether so many rounds of each kind, spread over `rounds`, spend at most `epsilon`."""
        ...

    def spent(self, counts: Mapping[OfRound, int], rounds: int) -> Spending:
        """What so many rounds of each kind, spread over `rounds`, spend together."""
        ...


class Ledger:
    """The ledger of one promise.

    Args:
        path: path of its SQLite file, which is created if it does not exist; None for a ledger in memory.
        promise: what may be spent. If epsilon is infinite, everything is recorded and nothing refused.
        accountant: composes releases.
        durable: whether an entry survives a power cut. If false, it survives only the end of the process; after a power
            cut the ledger may then be behind its head, and is refused.
        clock: returns seconds since 1970 (UTC).
        witness: a second head file, in another place.
        anchor: a head of this ledger known from elsewhere. The ledger must contain it; missing head files are then
            written again. A head file ahead of the ledger is still an error.

    Raises:
        LedgerMismatch: the ledger at `path` has another promise; nothing is written.
        LedgerDamaged: it was changed, truncated or restored from an older copy.
        StorageError: a file cannot be read or written, or another process held it for 30 seconds.
    """

    def __init__(
        self,
        path: Path | None,
        promise: Promise,
        *,
        accountant: Meter,
        durable: bool = True,
        clock: Callable[[], float] = time.time,
        witness: Path | None = None,
        anchor: Head | None = None,
    ) -> None:
        if path is None and witness is not None:
            raise PlanError(
                "a ledger's witness",
                given="a ledger in memory",
                expected="one in a file, which could be restored from an older copy",
                do="Give the ledger a path, or no witness.",
            )
        self.path, self.promise, self._accountant, self._clock = path, promise, accountant, clock
        self._history = _named(path)
        self._heads = head_files(path, witness, self._history, durable)
        self._file = LedgerFile(path, self._history, durable=durable)
        try:
            with self._file.writing():
                self._begin(anchor)
            self._publish()
        except BaseException:
            self._file.close()
            raise

    @staticmethod
    def read(path: Path, *, witness: Path | None = None, anchor: Head | None = None) -> History:
        """The current state of a ledger, fully verified. Others may be writing it; this writes nothing.

        Args:
            path: path of its SQLite file.
            witness, anchor: as for `Ledger`.

        Raises:
            LedgerDamaged: it was changed, truncated or restored from an older copy.
            RunError: there is no ledger at `path`.
            StorageError: a file cannot be read.
        """
        history = _named(path)
        # Read the heads first: the entries they name were in the database when they were written.
        heads = [(file, file.read()) for file in head_files(path, witness, history, False)]
        if not path.is_file():
            check_heads(history, heads, anchor)
        file = LedgerFile(path, history, writable=False)
        try:
            file.follow()
        finally:
            file.close()
        check_heads(history, heads, anchor)
        _ = history.promise  # raises if there is none: then it is not even a new ledger
        return history

    @property
    def head(self) -> Head:
        """Number and hash of the last entry this object has seen; note it elsewhere."""
        return self._history.head

    def contains(self, head: Head) -> bool:
        """Whether the ledger extends the one that had this head."""
        self._file.follow()
        return self._history.contains(head)

    def check(self, head: Head) -> None:
        """Raise `LedgerDamaged` unless the ledger `contains` `head`."""
        self._file.follow()
        self._history.check(head, "a head noted before")

    def tally(self) -> Tally:
        """What counts as spent: all reservations that were not cancelled, released or not, as last amended."""
        self._file.follow()
        return self._history.spent()

    def spent(self) -> Spending:
        """What has been spent, according to the accountant."""
        return self._told(self.tally())

    def entries(self) -> tuple[Entry, ...]:
        """All entries, starting with the promise."""
        self._file.follow()
        return tuple(self._history.entries)

    def reservations(self) -> tuple[Reservation, ...]:
        """All reservations with their current state."""
        self._file.follow()
        return tuple(self._history.reservations.values())

    def again(self, round: int, digest: bytes) -> bool:
        """Whether `round` was released with exactly this digest; releasing the same bytes again spends nothing.

        Args:
            round: round of the run.
            digest: SHA-256 of what is to be released, 32 bytes.
        """
        self._file.follow()
        return self._history.left(round, _hexadecimal(digest))

    def reserve(self, round: int, release: Release) -> int:
        """Count a release as spent, before it is made.

        A round is reserved once. It may be reserved again only if its reservation was lost (`lose`), cancelled or withheld;
        it then counts with everything that may have been released in it.

        Args:
            round: round of the run, from 0.
            release: what is to be released, with the smallest noise that may be in it.

        Returns:
            The reservation's number, from 1.

        Raises:
            BudgetSpent: it would spend more than was promised; nothing is written.
            PrivacyError: the round was already released, or has an open reservation.
            LedgerDamaged, StorageError: as on opening. After an error the release must not be made; the ledger decides
                whether it counts as spent.
        """
        _require_plain(round, release)
        with self._appending() as append:
            for before in self._history.of(round):
                if before.open or before.digest is not None:
                    raise PrivacyError(
                        f"round {round}",
                        given=f"reservation {before.number} of it, "
                        + ("which is open" if before.open else f"released as {(before.digest or '')[:12]}"),
                        expected="a round without a reservation: every further release of a round is spent again",
                        do="Go on with that reservation, or with the next round. If the process that made it is gone, `lose` it.",
                    )
            if not self._fits(round, None, release):
                raise self._spent(round, None, release, f"the release of round {round}")
            number = append(_entries.RESERVE, round, _entries.Reserving(release=release))
        return number

    def amend(self, number: int, release: Release) -> None:
        """Correct a reserved release before it is made: fewer devices sent less noise, or more sent more.

        If the correction does not fit the budget, the reservation stays spent as it was, and the ledger notes that it is
        withheld: `release` refuses it from then on. An untrusted server has seen the sum anyway.

        Args:
            number: number of the reservation.
            release: the release that counts from now on.

        Raises:
            BudgetSpent: more than was promised would be spent; nothing of this round may be released.
            PrivacyError: there is no such reservation, or it is released or withheld.
            LedgerDamaged, StorageError: as on opening.
        """
        refused = None
        with self._appending() as append:
            before = self._open(number)
            _require_plain(before.round, release)
            if before.release == release:
                return
            if self._fits(before.round, before.release, release):
                facts = _entries.Amending(reservation=number, release=release)
                append(_entries.AMEND, before.round, facts)
            else:
                what = f"round {before.round} as it really was"
                refused = self._spent(before.round, before.release, release, what)
                append(_entries.WITHHOLD, before.round, _entries.Withholding(reservation=number))
        if refused:
            raise refused

    def release(self, number: int, digest: bytes) -> None:
        """Note that a reserved release is made; call this before making it. A second call with the same digest does nothing.

        Args:
            number: number of the reservation.
            digest: SHA-256 of what is released, 32 bytes.

        Raises:
            PrivacyError: there is no such reservation, it is withheld, or something else was released on it.
            LedgerDamaged, StorageError: as on opening; nothing may be released then.
        """
        digits = _hexadecimal(digest)
        with self._appending() as append:
            reservation = self._history.reservations.get(number)
            if reservation and reservation.digest == digits:
                return
            reservation = self._open(number)
            append(_entries.RELEASE, reservation.round, _entries.Releasing(reservation=number, digest=digits))

    def cancel(self, number: int) -> None:
        """Cancel a reservation: nothing was released on it, and nothing will be. It no longer counts as spent.

        This is for a round that ended properly without a sum, for example if too few devices stayed to unmask one. Only the
        process that would have released it can know that; after a crash the reservation stays spent.

        Args:
            number: number of the reservation.

        Raises:
            PrivacyError: there is no such reservation, or it is released, withheld or cancelled.
            LedgerDamaged, StorageError: as on opening.
        """
        with self._appending() as append:
            reservation = self._open(number)
            append(_entries.CANCEL, reservation.round, _entries.Cancelling(reservation=number))

    def lose(self, number: int) -> None:
        """Give up a reservation whose process is gone: it counts as released, and nothing more may be released on it.

        Call this only if that process was killed or lost its connection: somebody may have seen what it had computed or
        sent.

        Args:
            number: number of the reservation.

        Raises:
            PrivacyError: there is no such reservation, or it is no longer open.
            LedgerDamaged, StorageError: as on opening.
        """
        with self._appending() as append:
            reservation = self._open(number)
            append(_entries.LOSE, reservation.round, _entries.Losing(reservation=number))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({self._history.name!r}, {len(self._history.entries)} entries)"

    def _begin(self, anchor: Head | None) -> None:
        self._file.create()
        self._file.follow()
        if self._history.entries:
            _require_same(self._history, self.promise)
        else:
            # A ledger is new only if there is no head of it.
            facts = _entries.Promising.of(self.promise)
            self._file.append(self._history.following(_entries.PROMISE, -1, facts, self._clock()))
        check_heads(self._history, [(file, file.read()) for file in self._heads], anchor)

    @contextmanager
    def _appending(self) -> Iterator[Callable[[str, int, _entries.Facts], int]]:
        def append(kind: str, round: int, facts: _entries.Facts) -> int:
            entry = self._history.following(kind, round, facts, self._clock())
            self._file.append(entry)
            return entry.number

        with self._file.writing():
            self._file.follow()
            check_heads(self._history, [(file, file.read()) for file in self._heads], None)
            yield append
        self._publish()

    def _publish(self) -> None:
        """Read back what was written and update the head files.

        After the commit, so that they are never ahead; while nobody else writes, so that they never go back.
        """
        with self._file.writing():
            self._file.follow()
            for file in self._heads:
                if file.read() != self.head:
                    file.write(self.head)

    def _fits(self, round: int, old: Release | None, new: Release) -> bool:
        if math.isinf(self.promise.epsilon):
            return True
        tally = self._history.spent()
        with tally.changed(round, old, new):
            return self._accountant.fits(tally.counts, self.promise.epsilon, tally.rounds)

    def _told(self, tally: Tally) -> Spending:
        return self._accountant.spent(tally.counts, tally.rounds)

    def _spent(self, round: int, old: Release | None, new: Release, what: str) -> BudgetSpent:
        tally = self._history.spent()
        now = self._told(tally).epsilon
        with tally.changed(round, old, new):
            then = self._told(tally).epsilon
        return BudgetSpent(
            "privacy budget",
            given=f"epsilon {now:.6g} spent, {then:.6g} with {what}",
            expected=f"at most {self.promise.epsilon:.6g} (delta {self.promise.delta:.3g}, unit {self.promise.unit})",
            do="Stop here; the last released model is the result. More rounds need a plan with a larger budget or more noise.",
        )

    def _open(self, number: int) -> Reservation:
        reservation = self._history.reservations.get(number)
        if reservation is None:
            given = "no such reservation"
        elif reservation.withheld:
            given = "one that is withheld: its correction did not fit the budget"
        elif reservation.cancelled:
            given = "one that was cancelled: nothing was released on it"
        elif reservation.lost:
            given = "one that was given up as lost: nobody knows what was released on it"
        elif reservation.digest is not None:
            given = f"one that was released, as {reservation.digest[:12]}"
        else:
            return reservation
        raise PrivacyError(
            f"reservation {number}",
            given=given,
            expected="one that is open",
            do="Make a new reservation; it is spent again.",
        )


def write_ledger(path: Path, entries: Iterable[Entry]) -> None:
    """Write the entries of a ledger, such as one that was in memory, to a new file, with its head beside it.

    Raises:
        LedgerDamaged: they are not a ledger's entries.
        StorageError: a file cannot be written.
    """
    history = _named(path)
    file = LedgerFile(path, history, durable=True)
    try:
        with file.writing():
            file.create()
            for entry in entries:
                file.append(entry)
        file.follow()
        for head in head_files(path, None, history, True):
            head.write(history.head)
    finally:
        file.close()


def _named(path: Path | None) -> History:
    return History("ledger in memory" if path is None else str(path))


def _require_same(history: History, promise: Promise) -> None:
    for name in Promise.__struct_fields__:
        recorded, given = getattr(history.promise, name), getattr(promise, name)
        if recorded != given:
            raise LedgerMismatch(
                history.name,
                given=f"a ledger whose {name} is {recorded}",
                expected=f"{given}",
                do="Use the plan it was started with, or start a new run with its own ledger.",
            )


def _require_plain(round: int, release: Release) -> None:
    numbers = [value for value in msgspec.structs.astuple(release) if isinstance(value, float)]
    if not (0 <= round < 1 << 63 and all(map(math.isfinite, numbers))):
        raise PrivacyError(
            "a release",
            given=f"round {round}, {release}",
            expected="a round from 0, and finite numbers",
            do="Describe the noise that is in the sum.",
        )


def _hexadecimal(digest: bytes) -> str:
    if len(digest) != 32:
        raise PrivacyError(
            "what leaves",
            given=f"a digest of {len(digest)} bytes",
            expected="its SHA-256, 32 bytes",
            do="Hash the bytes that are released.",
        )
    return digest.hex()
