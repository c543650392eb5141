"""A session's log in the database: many records become one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, func, insert, select

from fairyring.core.errors import MessageRefused, RunDamaged, RunError, StorageError
from fairyring.secagg.log import Record
from fairyring.service.storage.database import Database, Lease
from fairyring.service.storage.schema import records, reports, sessions
from fairyring.service.storage.values import identifier
from fairyring.service.storage.values import key as checked_key


class SessionLog:
    """The log of a session, as `fairyring.secagg.Server` takes it, with the reports that the session accepts.

    One thread at a time uses it. After an error it refuses everything: whoever appended is ahead of what is stored, and has to
    begin anew with a new log.

    Args:
        database: where it is.
        session: identity of a session that was opened.
        lease: that every append needs.

    Raises:
        RunError: there is no such session, or it has ended.
        RunDamaged: records are missing.
    """

    def __init__(self, database: Database, session: bytes, lease: Lease | None = None) -> None:
        self._database, self._session, self._lease = database, session, lease
        self._name = f"log of session {session.hex()[:16]}"
        self._pending: list[Record] = []
        self._new_reports: dict[bytes, bytes] = {}
        self._batching = self._broken = False

        def begun(connection: Connection) -> tuple[int, int, dict[bytes, bytes]]:
            self._check_open(connection)
            of = select(func.count(), func.coalesce(func.max(records.c.number) + 1, 0))
            count, end = connection.execute(of.where(records.c.session == session)).one()
            kept = select(reports.c.device, reports.c.digest).where(reports.c.session == session)
            return count, end, {row.device: row.digest for row in connection.execute(kept)}

        count, self._stored, self._reports = database.read("open a session's log", begun)
        if count != self._stored:
            raise RunDamaged(
                self._name,
                given=f"{count} of {self._stored} records",
                expected="all",
                do="Abort the session.",
            )

    def append(self, kind: str, data: bytes) -> int:
        """Append a record. It is stored when this returns; within `batch`, when that ends. Returns its number.

        Raises:
            RunError: the session has ended.
            LeaseLost, StorageError: see `Database.run`.
        """
        self._check_usable()
        self._pending.append(Record(kind, bytes(data)))
        number = self._stored + len(self._pending) - 1
        if not self._batching:
            self._flush()
        return number

    def report(self, device: bytes, digest: bytes) -> None:
        """Note a report as accepted, together with the records of its batch. The same again changes nothing.

        Args:
            device: its key, 32 bytes.
            digest: of the report.

        Raises:
            MessageRefused: the device has reported something else.
            RunError, LeaseLost, StorageError: as for `append`.
        """
        self._check_usable()
        checked_key(device, "key of a device")
        identifier(digest, "digest of a report")
        known = self._new_reports.get(device) or self._reports.get(device)
        if known == digest:
            return
        if known is not None:
            raise MessageRefused(
                "reporting",
                given="another report of the same device",
                expected="one in a session",
                do="Ignore it.",
            )
        self._new_reports[device] = digest
        if not self._batching:
            self._flush()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What is appended within is stored as one transaction at the end, whatever was raised within: the log's reader has seen it.

        Nothing is acknowledged before that.

        Raises:
            RunError, LeaseLost, StorageError: as for `append`; nothing of the batch was stored.
        """
        self._check_usable()
        if self._batching:
            raise StorageError(
                self._name,
                given="a batch within a batch",
                expected="one after the other",
                do="End the first one.",
            )
        self._batching = True
        try:
            yield
        finally:
            self._batching = False
            if not self._broken:
                self._flush()

    def read(self, number: int) -> Record:
        """The record with this number.

        Raises:
            IndexError: there is none.
        """
        self._check_usable()
        if number >= self._stored and number - self._stored < len(self._pending):
            return self._pending[number - self._stored]
        wanted = select(records.c.kind, records.c.data).where(
            records.c.session == self._session, records.c.number == number
        )
        row = self._database.read("a record", lambda c: c.execute(wanted).one_or_none())
        if row is None:
            raise IndexError(number)
        return Record(row.kind, row.data)

    def __len__(self) -> int:
        return self._stored + len(self._pending)

    def __iter__(self) -> Iterator[Record]:
        for number in range(len(self)):
            yield self.read(number)

    def __repr__(self) -> str:
        return f"SessionLog({self._session.hex()[:16]}, {len(self)} records)"

    def _flush(self) -> None:
        rows = [
            {
                "session": self._session,
                "number": self._stored + place,
                "kind": record.kind,
                "data": record.data,
            }
            for place, record in enumerate(self._pending)
        ]
        accepted = self._new_reports
        if not rows and not accepted:
            return

        def store(connection: Connection) -> None:
            self._check_open(connection)
            if rows:
                connection.execute(insert(records), rows)
            if accepted:
                now = self._database.now()
                of = [
                    {"session": self._session, "device": d, "digest": h, "at": now}
                    for d, h in accepted.items()
                ]
                connection.execute(insert(reports), of)

        self._broken = True  # unless it is stored
        self._database.run("append to a session's log", store, lease=self._lease)
        self._broken = False
        self._stored += len(rows)
        self._reports.update(accepted)
        self._pending, self._new_reports = [], {}

    def _check_open(self, connection: Connection) -> None:
        wanted = select(sessions.c.outcome).where(sessions.c.id == self._session).with_for_update(read=True)
        row = connection.execute(wanted).one_or_none()
        if row is None or row.outcome is not None:
            raise RunError(
                self._name,
                given="no such session" if row is None else f"a session that was {row.outcome}",
                expected="one that goes on",
                do="Open a new session.",
            )

    def _check_usable(self) -> None:
        if self._broken:
            raise StorageError(
                self._name,
                given="a log of which an append has failed",
                expected="one that has all that was appended",
                do="Open it again, and read from it anew.",
            )
