"""The ledger: the record of what a run has spent, which can grow and cannot be taken back unseen.

A release is reserved before anything is computed from the data and released when it leaves; what is reserved counts as
spent, whatever happens in between. What counts are rounds with all that left them: one release each, unless a round was
run again after a crash, which is taken for a release. Each entry carries the hash of the one before (`Entry` says of what). Several
processes may write one ledger: each reservation is counted, checked against the budget and written in one transaction.

What a chain of hashes cannot show is that its end is missing, and there is no secret in it: whoever can write the file
can also write another one, from the beginning. So heads are kept, `(number, hash)` of the last entry:

- in `ledger.head` beside `ledger.sqlite`, which shows that the database alone was cut, replaced or put back to an older
  copy. If it is missing, the ledger is taken for damaged, unless a head from elsewhere is given as `anchor`;
- in the `witness`, a file in another place, if one is given. **If the whole folder is put back to an older copy, only a
  head kept outside it can tell.** A snapshot of the machine puts back everything on it, so that place is best on
  another one;
- wherever else somebody notes `head`: in a checkpoint, with a peer, on paper. `check` and `contains` compare them.

After a crash a head file may be one entry behind, never ahead; it is brought up to date when the ledger is opened.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
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
    """What was spent."""

    @property
    def epsilon(self) -> float: ...


class Meter(Protocol):
    """What adds up releases: an accountant."""

    def fits(self, counts: Mapping[OfRound, int], epsilon: float, rounds: int) -> bool:
        """Whether so many rounds of each kind, spread over `rounds`, spend at most `epsilon`."""
        ...

    def spent(self, counts: Mapping[OfRound, int], rounds: int) -> Spending:
        """What so many rounds of each kind, spread over `rounds`, spend."""
        ...


class Ledger:
    """The ledger of one promise.

    Args:
        path: of its SQLite file, made if there is none; in memory without one.
        promise: what may be spent. An infinite epsilon: everything is recorded, nothing refused.
        accountant: what adds up releases.
        durable: whether an entry outlasts a power cut. Without it, it outlasts the process being killed; after a power
            cut the ledger may be behind its head then, and is refused.
        clock: seconds since 1970 (UTC).
        witness: a second head file, in another place.
        anchor: a head of this ledger known from elsewhere. It must be in the ledger, and head files that are missing
            are then written anew. A head file that names more than the ledger holds is believed nevertheless.

    Raises:
        LedgerMismatch: the ledger there is of another promise; nothing is written.
        LedgerDamaged: it was changed, cut or put back to an older copy.
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
                expected="one in a file, which can be put back",
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
        """A ledger as it is now, all of it verified, while others may be writing it. Nothing is written.

        Args:
            path: of its SQLite file.
            witness, anchor: as for `Ledger`.

        Raises:
            LedgerDamaged: it was changed, cut or put back to an older copy.
            RunError: there is none.
            StorageError: a file cannot be read.
        """
        history = _named(path)
        # Heads first: what they name was in the database when they were written.
        heads = [(file, file.read()) for file in head_files(path, witness, history, False)]
        if not path.is_file():
            check_heads(history, heads, anchor)
        file = LedgerFile(path, history, writable=False)
        try:
            file.follow()
        finally:
            file.close()
        check_heads(history, heads, anchor)
        _ = history.promise  # without one it is not even a new ledger
        return history

    @property
    def head(self) -> Head:
        """The last entry this object has seen: what to note elsewhere."""
        return self._history.head

    def contains(self, head: Head) -> bool:
        """Whether the ledger extends what somebody saw when `head` was its head."""
        self._file.follow()
        return self._history.contains(head)

    def check(self, head: Head) -> None:
        """Raise `LedgerDamaged` unless the ledger `contains` `head`."""
        self._file.follow()
        self._history.check(head, "a head noted before")

    def tally(self) -> Tally:
        """What counts as spent: every reservation that was not cancelled, released or not, as last amended."""
        self._file.follow()
        return self._history.spent()

    def spent(self) -> Spending:
        """What has been spent, by the accountant."""
        return self._told(self.tally())

    def entries(self) -> tuple[Entry, ...]:
        """All entries, from the promise on."""
        self._file.follow()
        return tuple(self._history.entries)

    def reservations(self) -> tuple[Reservation, ...]:
        """All reservations, as far as they got."""
        self._file.follow()
        return tuple(self._history.reservations.values())

    def again(self, round: int, digest: bytes) -> bool:
        """Whether `round` was released with exactly this digest: then the same may leave again and spends nothing.

        Args:
            round: of the run.
            digest: SHA-256 of what is to leave, 32 bytes.
        """
        self._file.follow()
        return self._history.left(round, _hexadecimal(digest))

    def reserve(self, round: int, release: Release) -> int:
        """Count a release as spent, before it is made.

        A round is reserved once, whatever becomes of it. Only where nobody is left to say what did (`lose`), where it was
        cancelled or withheld, may it be reserved again; it then counts with all that may have left it.

        Args:
            round: of the run, from 0.
            release: what is to leave, with the least noise that may be in it.

        Returns:
            The reservation's number, from 1.

        Raises:
            BudgetSpent: it would spend more than was promised; nothing is written.
            PrivacyError: the round was released, or somebody has it reserved.
            LedgerDamaged, StorageError: as on opening. After an error the release must not be made; whether it counts
                as spent then is for the ledger to say.
        """
        _require_plain(round, release)
        with self._appending() as append:
            for before in self._history.of(round):
                if before.open or before.digest is not None:
                    raise PrivacyError(
                        f"round {round}",
                        given=f"reservation {before.number} of it, "
                        + ("which is open" if before.open else f"released as {(before.digest or '')[:12]}"),
                        expected="a round that nobody has reserved: one more release of it is spent once more",
                        do="Go on with that reservation, or with the next round. If whoever made it is gone, `lose` it.",
                    )
            if not self._fits(round, None, release):
                raise self._spent(round, None, release, f"the release of round {round}")
            number = append(_entries.RESERVE, round, _entries.Reserving(release=release))
        return number

    def amend(self, number: int, release: Release) -> None:
        """Say what a reserved release really is, before it leaves: fewer devices sent less noise, or more sent more.

        If that does not fit the budget the reservation stays spent as it was, and the ledger notes that it is withheld:
        `release` refuses it from then on. A server that itself is not trusted has seen the sum all the same.

        Args:
            number: the reservation's.
            release: what counts from now on.

        Raises:
            BudgetSpent: more than was promised would be spent: nothing of this round may leave.
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
        """Note that a reserved release leaves; called before it does. With the same digest again, nothing changes.

        Args:
            number: the reservation's.
            digest: SHA-256 of what leaves, 32 bytes.

        Raises:
            PrivacyError: there is no such reservation, it is withheld, or something else was released on it.
            LedgerDamaged, StorageError: as on opening; nothing may leave then.
        """
        digits = _hexadecimal(digest)
        with self._appending() as append:
            found = self._history.reservations.get(number)
            if found and found.digest == digits:
                return
            found = self._open(number)
            append(_entries.RELEASE, found.round, _entries.Releasing(reservation=number, digest=digits))

    def cancel(self, number: int) -> None:
        """Take a reservation back: nothing left on it, and nothing will. It stops counting.

        For a round that ended in order without a sum, as when too few stayed to unmask one. It is for whoever would have
        released it to say; after a crash nobody can, and the reservation stays spent.

        Args:
            number: the reservation's.

        Raises:
            PrivacyError: there is no such reservation, or it is released, withheld or cancelled.
            LedgerDamaged, StorageError: as on opening.
        """
        with self._appending() as append:
            found = self._open(number)
            append(_entries.CANCEL, found.round, _entries.Cancelling(reservation=number))

    def lose(self, number: int) -> None:
        """Note that nobody is left to say what became of a reservation: it counts as released, and nothing may leave on
        it any more.

        For whoever knows that its maker is gone, because it was killed or lost its connection: what it had computed, or
        sent, somebody may have seen.

        Args:
            number: the reservation's.

        Raises:
            PrivacyError: there is no such reservation, or it is no longer open.
            LedgerDamaged, StorageError: as on opening.
        """
        with self._appending() as append:
            found = self._open(number)
            append(_entries.LOSE, found.round, _entries.Losing(reservation=number))

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
            # Only a ledger nobody has a head of is new.
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
        """Read back what was written, and name it in the head files: after the commit, so that they are never ahead,
        and while nobody else writes, so that they never go back."""
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
        found = self._history.reservations.get(number)
        if found is None:
            given = "no such reservation"
        elif found.withheld:
            given = "one that is withheld: what it really was did not fit the budget"
        elif found.cancelled:
            given = "one that was cancelled: nothing left on it"
        elif found.lost:
            given = "one that was given up for lost: what left on it nobody knows"
        elif found.digest is not None:
            given = f"one that was released, as {found.digest[:12]}"
        else:
            return found
        raise PrivacyError(
            f"reservation {number}",
            given=given,
            expected="one that is open",
            do="Reserve what is to leave anew; it is spent anew.",
        )


def _named(path: Path | None) -> History:
    return History("ledger in memory" if path is None else str(path))


def _require_same(history: History, promise: Promise) -> None:
    for name in Promise.__struct_fields__:
        there, here = getattr(history.promise, name), getattr(promise, name)
        if there != here:
            raise LedgerMismatch(
                history.name,
                given=f"a ledger whose {name} is {there}",
                expected=f"{here}",
                do="Use the plan it was begun with, or begin a new run, with a ledger of its own.",
            )


def _require_plain(round: int, release: Release) -> None:
    numbers = [value for value in msgspec.structs.astuple(release) if isinstance(value, float)]
    if not (0 <= round < 1 << 63 and all(map(math.isfinite, numbers))):
        raise PrivacyError(
            "a release",
            given=f"round {round}, {release}",
            expected="a round from 0 on, and finite numbers",
            do="Describe the noise that is in the sum.",
        )


def _hexadecimal(digest: bytes) -> str:
    if len(digest) != 32:
        raise PrivacyError(
            "what leaves",
            given=f"a digest of {len(digest)} bytes",
            expected="its SHA-256, 32 bytes",
            do="Hash what leaves, as it leaves.",
        )
    return digest.hex()
