"""Nonces of requests: each is taken once, until it expires."""

import threading
from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from fairyring.service.storage.database import Database
from fairyring.service.storage.schema import nonces
from fairyring.service.storage.values import identifier, time_of

_PRUNED_EVERY = 60.0  # seconds
_PRUNED_AT_ONCE = 1000  # nonces, so that other writers wait little


class Nonces:
    """The nonces that were seen and have not expired."""

    def __init__(self, database: Database) -> None:
        self._database = database
        new = sqlite.insert if database.url.drivername == "sqlite" else postgresql.insert
        # The same conflict clause in both, but of two types.
        self._add = new(nonces).on_conflict_do_nothing().returning(nonces.c.key, nonces.c.nonce)  # type: ignore[union-attr]
        self._pruned = float("-inf")
        self._pruning = threading.Lock()

    def remember(self, seen: Sequence[tuple[bytes, bytes, float]]) -> list[bool]:
        """Take nonces, all in one transaction. For each, in order, whether it is new; false means: refuse the request.

        One that has expired may be forgotten: a request whose time has passed is to be refused for that.

        Args:
            seen: of each request the device's key, the nonce (1 to 64 bytes) and when it expires, in seconds since 1970.
        """
        first = {
            (identifier(key, "key of a nonce"), identifier(nonce, "nonce")): time_of(until, "end of a nonce")
            for key, nonce, until in reversed(seen)
        }
        if not first:
            return []
        # In one order, so that two batches wait for each other at most once.
        rows = [{"key": key, "nonce": nonce, "until": until} for (key, nonce), until in sorted(first.items())]

        def take(connection: Connection) -> set[tuple[bytes, bytes]]:
            return {(row.key, row.nonce) for row in connection.execute(self._add, rows)}

        new = self._database.run("take nonces", take)
        self._prune()
        found = []
        for key, nonce, _ in seen:
            found.append((key, nonce) in new)
            new.discard((key, nonce))  # the second of two in one batch was seen before
        return found

    def _prune(self) -> None:
        now = self._database.now()
        with self._pruning:
            if abs(now - self._pruned) < _PRUNED_EVERY:
                return
            self._pruned = now
        expired = select(nonces.c.key, nonces.c.nonce).where(nonces.c.until < now).limit(_PRUNED_AT_ONCE)
        some = delete(nonces).where(tuple_(nonces.c.key, nonces.c.nonce).in_(expired))
        while self._database.run("forget nonces", lambda c: c.execute(some).rowcount) == _PRUNED_AT_ONCE:
            pass
