"""The audit log: who did what, each entry chained to the one before by its hash, so that a change of any is seen."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select

from fairyring.core.errors import RunDamaged
from fairyring.service.storage.database import Database
from fairyring.service.storage.schema import audit
from fairyring.service.storage.values import document, line

_CHUNK = 1000  # entries read at once


class Noted(NamedTuple):
    """An entry.

    Attributes:
        number: counted from 0.
        at: seconds since 1970.
        who: an operator, or a part of the service.
        action: what was done, in one word or two.
        details: what it was done to.
        hash: SHA-256 of the former entry's hash and this entry, 32 bytes.
    """

    number: int
    at: float
    who: str
    action: str
    details: dict[str, Any]
    hash: bytes


class Head(NamedTuple):
    """The last entry: its number (-1 without any) and its hash. Kept elsewhere, it shows that the end was not cut off."""

    number: int
    hash: bytes


class Audit:
    """The audit log of a service. Entries are only ever added."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, who: str, action: str, details: Mapping[str, Any]) -> Head:
        """Add an entry."""
        return self._database.run(
            "note in the audit log",
            lambda connection: add(connection, self._database.now(), who, action, details),
        )

    def read(self, limit: int = 100, before: int | None = None) -> list[Noted]:
        """The newest entries, newest first.

        Args:
            limit: how many at most.
            before: only those with a smaller number.
        """
        wanted = select(audit).order_by(audit.c.number.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(audit.c.number < before)
        rows = self._database.read("audit log", lambda c: c.execute(wanted).all())
        return [
            Noted(row.number, row.at, row.who, row.action, json.loads(row.details), row.hash) for row in rows
        ]

    def head(self) -> Head:
        """The last entry's number and hash."""
        return self._database.read("head of the audit log", _head)

    def verify(self, *, contains: Head | None = None) -> Head:
        """Recompute the chain. Returns its head.

        Args:
            contains: a head that was noted earlier, elsewhere.

        Raises:
            RunDamaged: an entry is missing or was changed, or the earlier head is not in the log.
        """
        number, last = -1, bytes(32)
        missed = contains is not None and contains.number >= 0
        while True:
            after = select(audit).where(audit.c.number > number).order_by(audit.c.number).limit(_CHUNK)
            rows = self._database.read("audit log", lambda c, after=after: c.execute(after).all())
            if not rows:
                break
            for row in rows:
                number += 1
                last = _hash(last, row.number, row.at, row.who, row.action, row.details)
                if row.number != number or row.hash != last:
                    raise _damaged(f"a missing or changed entry {number}")
                if contains is not None and contains.number == number:
                    if contains.hash != last:
                        raise _damaged(f"another entry {number} than was noted")
                    missed = False
        if missed and contains is not None:
            raise _damaged(f"{number + 1} entries")
        return Head(number, last)


def add(connection: Connection, now: float, who: str, action: str, details: Mapping[str, Any]) -> Head:
    """Add an entry within another transaction."""
    number, last = _head(connection)
    values = {
        "number": number + 1,
        "at": now,
        "who": line(who, "who of the audit log"),
        "action": line(action, "action of the audit log"),
        "details": document(details, "details of the audit log"),
    }
    head = Head(number + 1, _hash(last, *values.values()))
    connection.execute(insert(audit), {**values, "hash": head.hash})
    return head


def _head(connection: Connection) -> Head:
    row = connection.execute(
        select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)
    ).one_or_none()
    return Head(-1, bytes(32)) if row is None else Head(row.number, row.hash)


def _hash(last: bytes, number: int, at: float, who: str, action: str, details: str) -> bytes:
    text = document({"number": number, "at": at, "who": who, "action": action, "details": details}, "entry")
    return hashlib.sha256(last + text.encode("ascii")).digest()


def _damaged(given: str) -> RunDamaged:
    return RunDamaged(
        "audit log",
        given=given,
        expected="the entries that were written",
        do="Compare it with a copy. Somebody wrote to the database past the service.",
    )
