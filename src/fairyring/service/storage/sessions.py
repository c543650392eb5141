"""Sessions: each is one sum of one round of a run. It ends once, and so does every report that it accepted."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, select, update

from fairyring.core.errors import LeaseLost, PlanError, RunError, RunMismatch, StorageError
from fairyring.service.storage.database import Database, Lease
from fairyring.service.storage.schema import records, reports, runs, sessions
from fairyring.service.storage.values import document, identifier, whole
from fairyring.service.storage.values import key as checked_key

Outcome = Literal["summed", "aborted"]
_FORGOTTEN_AT_ONCE = 64  # records, so that other writers wait little
_FIELDS = [column for column in sessions.c if column.name != "result"]


@dataclass(frozen=True)
class StoredSession:
    """A session, as it is stored.

    Attributes:
        id: its identity.
        run: id of the run.
        round: of the run.
        opened: when, in seconds since 1970.
        facts: what was said of it when it was opened.
        progress: how far it is.
        ended: when, or None.
        outcome: `summed`, `aborted`, or None while it goes on.
        reason: why it was aborted.
        count: how many reports are in the sum, or None.
        forgotten: whether the bytes of its records were deleted.
    """

    id: bytes
    run: str
    round: int
    opened: float
    facts: dict[str, Any]
    progress: dict[str, Any]
    ended: float | None
    outcome: Outcome | None
    reason: str
    count: int | None
    forgotten: bool


class Report(NamedTuple):
    """A report that was accepted.

    Attributes:
        device: the key of the device.
        digest: of the report.
        at: when it was accepted, in seconds since 1970.
        outcome: `summed`, `aborted`, or None while its session goes on.
    """

    device: bytes
    digest: bytes
    at: float
    outcome: Outcome | None


class Sessions:
    """The sessions of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(
        self, run: str, round: int, session: bytes, facts: Mapping[str, Any], *, lease: Lease | None = None
    ) -> None:
        """Begin a session. The same again changes nothing.

        Args:
            run: id of the run.
            round: of the run.
            session: its identity, 1 to 64 bytes.
            facts: what JSON has.
            lease: see `Database.run`.

        Raises:
            RunError: there is no such run.
            RunMismatch: there is another session of this identity.
            LeaseLost: see `Database.run`.
        """
        values = {
            "id": identifier(session, "identity of a session"),
            "run": run,
            "round": whole(round, "round of a session", least=0),
            "facts": document(facts, "facts of a session"),
        }

        def begin(connection: Connection) -> None:
            row = connection.execute(select(sessions).where(sessions.c.id == session)).one_or_none()
            if row is not None:
                if any(row._mapping[field] != value for field, value in values.items()):
                    raise RunMismatch(
                        _name(session),
                        given="another session of this identity",
                        expected="a new one",
                        do="Choose another.",
                    )
                return
            if connection.execute(select(runs.c.id).where(runs.c.id == run)).first() is None:
                raise RunError(
                    _name(session),
                    given=f"a run {run!r}, which there is not",
                    expected="the id of a run",
                    do="Submit it first.",
                )
            connection.execute(
                insert(sessions),
                {
                    **values,
                    "progress": "{}",
                    "opened": self._database.now(),
                    "reason": "",
                    "forgotten": 0,
                },
            )

        self._database.run("open a session", begin, lease=lease)

    def end(
        self,
        session: bytes,
        outcome: Outcome,
        *,
        reason: str = "",
        summed: Collection[bytes] = (),
        result: bytes | None = None,
        progress: Mapping[str, Any] | None = None,
        lease: Lease | None = None,
    ) -> None:
        """End a session, and with it every report that it accepted: each is summed or aborted. The same again changes nothing.

        Args:
            session: its identity.
            outcome: `summed` or `aborted`.
            reason: why it was aborted.
            summed: keys of the devices whose reports are in the sum. All others' are aborted.
            result: the sum, in bytes.
            progress: how far it came; by default as was noted last.
            lease: see `Database.run`.

        Raises:
            RunError: there is no such session, it has ended in another way, or a device in the sum has no report.
            LeaseLost: see `Database.run`.
        """
        if outcome not in ("summed", "aborted"):
            raise PlanError(
                "outcome of a session",
                given=f"{outcome!r}",
                expected="'summed' or 'aborted'",
                do="Choose one.",
            )
        keys = sorted({checked_key(device, "key of a device") for device in summed})
        if outcome == "aborted" and (keys or result is not None):
            raise PlanError(
                "end of a session",
                given="a sum that was aborted",
                expected="no devices and no result",
                do="Leave them out.",
            )
        count = len(keys) if outcome == "summed" else None
        marked = update(reports).where(reports.c.session == session, reports.c.device == bindparam("of"))

        def finish(connection: Connection) -> None:
            row = _held(connection, session)
            if row.outcome is not None:
                before, again = (row.outcome, row.reason, row.count), (outcome, reason, count)
                other_sum = row.result != result and not row.forgotten
                if before != again or other_sum or (_in_sum(connection, session) != set(keys)):
                    raise _refused(session, f"another end of a session that was {row.outcome}", "one end")
                return
            held = set(connection.scalars(select(reports.c.device).where(reports.c.session == session)))
            if not held.issuperset(keys):
                raise _refused(
                    session, "a sum over devices without an accepted report", "a report for each device"
                )
            connection.execute(update(reports).where(reports.c.session == session), {"outcome": "aborted"})
            if keys:
                connection.execute(marked, [{"of": key, "outcome": "summed"} for key in keys])
            ended = {
                "ended": self._database.now(),
                "outcome": outcome,
                "reason": reason,
                "count": count,
                "result": result,
            }
            if progress is not None:
                ended["progress"] = document(progress, "progress of a session")
            connection.execute(update(sessions).where(sessions.c.id == session), ended)

        self._database.run("end a session", finish, lease=lease)

    def get(self, session: bytes) -> StoredSession | None:
        """A session; None if there is none of this identity."""
        wanted = select(*_FIELDS).where(sessions.c.id == session)
        row = self._database.read("a session", lambda c: c.execute(wanted).one_or_none())
        return None if row is None else _session(row)

    def result(self, session: bytes) -> bytes | None:
        """The sum of a session; None if it has none."""
        wanted = select(sessions.c.result).where(sessions.c.id == session)
        return self._database.read("result of a session", lambda c: c.execute(wanted).scalar_one_or_none())

    def reports(self, session: bytes) -> list[Report]:
        """The reports that a session accepted, by device."""
        fields = reports.c.device, reports.c.digest, reports.c.at, reports.c.outcome
        wanted = select(*fields).where(reports.c.session == session).order_by(reports.c.device)
        return [Report(*row) for row in self._database.read("reports", lambda c: c.execute(wanted).all())]

    def of_run(self, run: str) -> list[StoredSession]:
        """The sessions of a run, by round."""
        return self._list(sessions.c.run == run)

    def unfinished(self, run: str | None = None) -> list[StoredSession]:
        """The sessions that go on, of a run or of all runs, by round."""
        going = sessions.c.outcome.is_(None)
        return self._list(going if run is None else and_(sessions.c.run == run, going))

    def note(self, session: bytes, progress: Mapping[str, Any], *, lease: Lease | None = None) -> None:
        """Say how far a session is.

        Raises:
            LeaseLost: see `Database.run`.
        """
        values = {"progress": document(progress, "progress of a session")}
        noted = update(sessions).where(sessions.c.id == session)
        self._database.run(
            "note a session's progress", lambda c: c.execute(noted, values) and None, lease=lease
        )

    def forget(self, session: bytes) -> None:
        """Delete the records of a session that has ended: nobody's masked vector is kept. Nor is the sum. Its outcome and reports stay.

        Raises:
            RunError: there is no such session, or it goes on.
        """

        def close(connection: Connection) -> None:
            if _held(connection, session).outcome is None:
                raise _refused(session, "one that goes on", "one that has ended")
            connection.execute(
                update(sessions).where(sessions.c.id == session), {"forgotten": 1, "result": None}
            )

        def drop(connection: Connection) -> bool:
            of = records.c.session == session
            end = connection.execute(select(func.min(records.c.number)).where(of)).scalar_one()
            if end is None:
                return False
            connection.execute(delete(records).where(of, records.c.number < end + _FORGOTTEN_AT_ONCE))
            return True

        self._database.run("forget a session", close)
        while self._database.run("forget records", drop):
            pass
        self._database.settle()

    def clear(self, run: str, reason: str, *, keep: bytes | None = None, lease: Lease | None = None) -> None:
        """End the sessions of a run that go on, and forget all of them.

        Args:
            run: its id.
            reason: why they end.
            keep: identity of a session that stays as it is.
            lease: see `Database.run`.

        Raises:
            LeaseLost: see `Database.run`.
        """
        for session in self._list(and_(sessions.c.run == run, sessions.c.forgotten == 0)):
            if session.id == keep:
                continue
            if session.outcome is None:
                try:
                    self.end(session.id, "aborted", reason=reason, lease=lease)
                except (LeaseLost, StorageError):
                    raise
                except RunError:  # it has ended meanwhile
                    pass
            self.forget(session.id)

    def _list(self, condition: Any) -> list[StoredSession]:
        wanted = (
            select(*_FIELDS).where(condition).order_by(sessions.c.round, sessions.c.opened, sessions.c.id)
        )
        return [_session(row) for row in self._database.read("sessions", lambda c: c.execute(wanted).all())]


def _in_sum(connection: Connection, session: bytes) -> set[bytes]:
    of = select(reports.c.device).where(reports.c.session == session, reports.c.outcome == "summed")
    return set(connection.scalars(of))


def _held(connection: Connection, session: bytes) -> Row[Any]:
    row = connection.execute(select(sessions).where(sessions.c.id == session).with_for_update()).one_or_none()
    if row is None:
        raise _refused(session, "no such session", "one that was opened")
    return row


def _session(row: Row[Any]) -> StoredSession:
    return StoredSession(
        **{
            **row._mapping,
            "facts": json.loads(row.facts),
            "progress": json.loads(row.progress),
            "forgotten": bool(row.forgotten),
        }
    )


def _name(session: bytes) -> str:
    return f"session {session.hex()[:16]}"


def _refused(session: bytes, given: str, expected: str) -> RunError:
    return RunError(_name(session), given=given, expected=expected, do="Read anew what is stored of it.")
