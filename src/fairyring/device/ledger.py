"""The device's own ledger: what it took part in, and why it does not take part again.

A plan's promise to people rests on how often their device contributes. A service that counts wrong, or lies, is refused here, by the
manifest that the plan's author signed and by what the device itself has noted. Whatever the device sends is noted first.

A copy of an older ledger cannot be told from the file by itself: who puts one back lets the device contribute again. Keep the device's
folder out of what is restored from backups, or let the device forget its identity when it is.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fairyring.core.errors import ParticipationRefused, PlanError
from fairyring.device._database import Database
from fairyring.messages import Manifest

DAY = 86400.0
ENDS = ("summed", "aborted", "left")
_TABLES = (
    """CREATE TABLE participations (
        number INTEGER PRIMARY KEY, manifest BLOB NOT NULL, plan BLOB NOT NULL, name TEXT NOT NULL, author BLOB NOT NULL,
        run TEXT NOT NULL, session BLOB NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL, masked INTEGER NOT NULL,
        epsilon TEXT NOT NULL, promised INTEGER NOT NULL, rounds INTEGER NOT NULL, participations INTEGER NOT NULL,
        separation INTEGER NOT NULL, bytes INTEGER NOT NULL, began REAL NOT NULL, contributed REAL, ended REAL)""",
    "CREATE UNIQUE INDEX by_session ON participations (run, session)",
    "CREATE INDEX by_plan ON participations (plan) WHERE contributed IS NOT NULL",
    "CREATE INDEX by_time ON participations (contributed) WHERE contributed IS NOT NULL",
    """CREATE TABLE refusals (
        what TEXT NOT NULL, why TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL, times INTEGER NOT NULL,
        PRIMARY KEY (what, why))""",
)
_FIELDS = "number, manifest, plan, name, author, run, session, round, state, bytes, masked, epsilon, began, contributed, ended"


class Caps(NamedTuple):
    """How often this device's owner lets it contribute at most, whatever a plan allows; None for no cap.

    Attributes:
        per_day: contributions in 24 hours.
        per_plan: contributions to a plan.
        bytes_per_day: bytes of reports in 24 hours.
    """

    per_day: int | None = None
    per_plan: int | None = None
    bytes_per_day: int | None = None


class Participation(NamedTuple):
    """One session that the device was in.

    Attributes:
        number: in the ledger.
        manifest, plan: digests of the signed manifest and of the plan.
        name: of the plan.
        author: its public key.
        run, session, round: where.
        state: `begun`; `contributed`, once something was sent that may be in a sum; `summed`, `aborted` or `left`, as it ended.
        bytes: that were sent.
        masked: whether only a sum of several devices could be seen.
        epsilon: what the plan promised, as text; empty if nothing.
        began, contributed, ended: times, in seconds since 1970; None if it did not.
    """

    number: int
    manifest: bytes
    plan: bytes
    name: str
    author: bytes
    run: str
    session: bytes
    round: int
    state: str
    bytes: int
    masked: bool
    epsilon: str
    began: float
    contributed: float | None
    ended: float | None


class Refusal(NamedTuple):
    """What the device has not done, why, when first and last, and how often."""

    what: str
    why: str
    first: float
    last: float
    times: int


class Totals(NamedTuple):
    """What all participations come to.

    Attributes:
        sessions: that the device was in.
        contributions: sessions to which it contributed, whether or not there was a sum.
        summed: those of which it knows that there was a sum.
        plans: to which it contributed.
        bytes: that it sent.
        refusals: how often it refused.
    """

    sessions: int
    contributions: int
    summed: int
    plans: int
    bytes: int
    refusals: int


class DeviceLedger:
    """The ledger in an SQLite file. What a call has noted survives the end of the process, and a power cut, once it returns.

    It may be used by several threads.

    Args:
        path: of the file; see `DeviceFolder.ledger`.
        caps: of the device's owner.
        clock: the time in seconds since 1970.

    Raises:
        StorageError: the file cannot be written.
        RunDamaged: it is no ledger.
    """

    def __init__(
        self, path: Path, caps: Caps | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.caps, self._clock = caps or Caps(), clock
        self._database = Database(Path(path), _TABLES, 1, "the ledger of a device")

    def check(
        self,
        manifest: Manifest,
        digest: bytes,
        run: str,
        round: int,
        session: bytes,
        now: float | None = None,
    ) -> None:
        """Check that the device may contribute to a round.

        What counts is what was contributed, to whichever run of the plan and whether or not there was a sum: a plan that is signed
        again, or run again, does not begin afresh. A second contribution to one round is one more. Where a plan made a promise, its
        limits at that time hold on, also if a later manifest of it has wider ones.

        Args:
            manifest, digest: of the plan, and of its signed bytes.
            run, round, session: that the device is asked to take part in.
            now: in seconds since 1970; by the device's clock if it is not given.

        Raises:
            ParticipationRefused: it may not.
            StorageError: the ledger cannot be read.
        """
        now = self._clock() if now is None else now
        if manifest.expires is not None and now >= manifest.expires:
            raise _refused(
                "expired",
                f"a manifest that expired {now - manifest.expires:.0f} s ago",
                "one that is still good",
                "The plan's author must sign it again.",
            )
        self._check(
            manifest.plan, _Limits.of(manifest), run, round, session, manifest.message.bytes, None, now
        )

    def begin(
        self,
        manifest: Manifest,
        digest: bytes,
        run: str,
        round: int,
        session: bytes,
        now: float | None = None,
    ) -> int:
        """Note that the device enters a session, after `check`. Arguments and errors are those of `check`.

        A session that was begun, and to which nothing was contributed, may be begun again: it keeps its number.

        Returns:
            The number of the participation.
        """
        now = self._clock() if now is None else now
        with self._database.writing():
            self.check(manifest, digest, run, round, session, now)
            found = self._database.rows(
                "SELECT number FROM participations WHERE run = ? AND session = ?", run, session
            )
            promise, limits = manifest.promise, _Limits.of(manifest)
            epsilon = "" if promise is None else f"{promise.epsilon:g} at delta {promise.delta:g}"
            cursor = self._database.execute(
                "INSERT OR REPLACE INTO participations VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'begun', ?, ?, ?, ?, ?, ?, 0, ?, NULL, NULL)",
                *(found[0][0] if found else None, digest, manifest.plan, manifest.name, manifest.author),
                *(run, session, round, manifest.terms is not None, epsilon, *limits, now),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def contributed(self, number: int, size: int, now: float | None = None) -> None:
        """Note a contribution: to be called before the first byte of it is sent, and once for a session.

        All limits are checked once more, since other sessions may have got in between.

        Args:
            number: of the participation, from `begin`.
            size: bytes that will be sent.
            now: see `check`.

        Raises:
            ParticipationRefused: the device may not contribute any longer, or has already.
        """
        now = self._clock() if now is None else now
        with self._database.writing():
            plan, promised, rounds, participations, separation, run, round, session, state = self._row(number)
            if state != "begun":
                raise _refused(
                    "session",
                    f"a second contribution to a session that was {state}",
                    "one contribution to a session: two would be two releases under one noise",
                    "Wait for the next round.",
                )
            limits = _Limits(bool(promised), rounds, participations, separation)
            self._check(plan, limits, run, round, session, size, number, now)
            self._database.execute(
                "UPDATE participations SET state = 'contributed', contributed = ?, bytes = ? WHERE number = ?",
                *(now, size, number),
            )

    def ended(self, number: int, state: str, now: float | None = None) -> None:
        """Note how a session ended: `summed`, `aborted` or `left`. What was contributed counts in any case."""
        if state not in ENDS:
            raise PlanError(
                "end of a session", given=repr(state), expected=f"one of {', '.join(ENDS)}", do="Give it."
            )
        now = self._clock() if now is None else now
        with self._database.writing():
            self._row(number)
            self._database.execute(
                "UPDATE participations SET state = ?, ended = ? WHERE number = ?", state, now, number
            )

    def unfinished(self) -> list[Participation]:
        """Sessions of which the end is not noted, the oldest first: after a crash, those that the device was in."""
        return self._participations("WHERE state IN ('begun', 'contributed') ORDER BY number")

    def history(self, limit: int = 100) -> list[Participation]:
        """The latest participations, the newest first."""
        return self._participations("ORDER BY number DESC LIMIT ?", limit)

    def refused(self, what: str, why: str, now: float | None = None) -> None:
        """Note that the device did not do something: the name of a plan, say, and the reason for its owner to read."""
        now = self._clock() if now is None else now
        with self._database.writing():
            self._database.execute(
                "INSERT INTO refusals VALUES (?, ?, ?, ?, 1) "
                "ON CONFLICT DO UPDATE SET last = excluded.last, times = times + 1",
                *(what[:200], why[:1000], now, now),
            )

    def refusals(self, limit: int = 100) -> list[Refusal]:
        """What the device refused, the latest first; the same thing for the same reason is there once."""
        rows = self._database.rows(
            "SELECT what, why, first, last, times FROM refusals ORDER BY last DESC, rowid DESC LIMIT ?", limit
        )
        return [Refusal(*row) for row in rows]

    def totals(self) -> Totals:
        """What all participations come to."""
        sessions, contributions, summed, plans, size = self._database.rows(
            "SELECT count(*), count(contributed), coalesce(sum(state = 'summed' AND contributed IS NOT NULL), 0), "
            "count(DISTINCT CASE WHEN contributed IS NOT NULL THEN plan END), coalesce(sum(bytes), 0) FROM participations"
        )[0]
        refusals = self._database.rows("SELECT coalesce(sum(times), 0) FROM refusals")[0][0]
        return Totals(sessions, contributions, summed, plans, size, refusals)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> "DeviceLedger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, number: int) -> tuple:
        rows = self._database.rows(
            "SELECT plan, promised, rounds, participations, separation, run, round, session, state FROM participations WHERE number = ?",
            number,
        )
        if not rows:
            raise PlanError(
                "participation",
                given=f"number {number}",
                expected="one that was begun",
                do="Call begin() first.",
            )
        return rows[0]

    def _participations(self, rest: str, *values: object) -> list[Participation]:
        rows = self._database.rows(f"SELECT {_FIELDS} FROM participations {rest}", *values)
        return [Participation(*row)._replace(masked=bool(row[10])) for row in rows]

    def _check(
        self,
        plan: bytes,
        limits: "_Limits",
        run: str,
        round: int,
        session: bytes,
        size: int,
        number: int | None,
        now: float,
    ) -> None:
        rows = self._database.rows(
            "SELECT run, round, session, promised, rounds, participations, separation FROM participations "
            "WHERE plan = ? AND contributed IS NOT NULL",
            plan,
        )
        for _, _, _, promised, *earlier in rows:
            if promised:
                limits = limits.within(_Limits(True, *earlier))
        taken = self._database.rows(
            "SELECT 1 FROM participations WHERE run = ? AND session = ? AND contributed IS NOT NULL",
            run,
            session,
        )
        if taken and number is None:
            raise _refused(
                "session",
                f"session {session.hex()[:8]} again",
                "one contribution to a session",
                "Wait for the next round.",
            )
        if round > limits.rounds:
            raise _refused(
                "rounds",
                f"round {round}",
                f"at most {limits.rounds} rounds of this plan, as its author signed",
                "Do not trust this service: it asks for more than the plan has.",
            )
        if len(rows) >= limits.participations:
            raise _refused(
                "participations",
                f"{len(rows)} contributions to this plan so far",
                f"at most {limits.participations}, as its author signed",
                "This device has done its part of the plan.",
            )
        near = [other for _, other, *_ in rows if other != round and abs(other - round) < limits.separation]
        if near:
            raise _refused(
                "separation",
                f"round {round}, after a contribution to round {near[0]}",
                f"at least {limits.separation} rounds between two, as the plan's author signed",
                "Wait for a later round.",
            )
        latest = max((other for of, other, *_ in rows if of == run), default=round)
        if round < latest:
            raise _refused(
                "order",
                f"round {round}, after a contribution to round {latest} of the same run",
                "rounds in their order",
                "Do not trust this service, or ask whether its run was put back.",
            )
        self._check_caps(len(rows), size, now)

    def _check_caps(self, contributions: int, size: int, now: float) -> None:
        # With a clock that was put back, what lies ahead of it counts, too.
        today, sent = self._database.rows(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM participations WHERE contributed > ?", now - DAY
        )[0]
        caps = self.caps
        for given, cap, what in (
            (contributions + 1, caps.per_plan, "contributions to a plan"),
            (today + 1, caps.per_day, "contributions in 24 hours"),
            (sent + size, caps.bytes_per_day, "bytes sent in 24 hours"),
        ):
            if cap is not None and given > cap:
                raise _refused(
                    "cap",
                    f"{given} {what} with this round",
                    f"at most {cap}, as the owner of this device said",
                    "Wait, or raise the cap.",
                )


class _Limits(NamedTuple):
    promised: bool
    rounds: int
    participations: int
    separation: int

    @classmethod
    def of(cls, manifest: Manifest) -> "_Limits":
        limits = manifest.limits
        return cls(manifest.promise is not None, limits.rounds, limits.participations, limits.separation)

    def within(self, other: "_Limits") -> "_Limits":
        """Limits that keep both."""
        return _Limits(
            self.promised or other.promised,
            min(self.rounds, other.rounds),
            min(self.participations, other.participations),
            max(self.separation, other.separation),
        )


def _refused(reason: str, given: str, expected: str, do: str) -> ParticipationRefused:
    return ParticipationRefused(reason, given=given, expected=expected, do=do)
