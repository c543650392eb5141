"""All that a service keeps, in one place."""

import os
import time
from collections.abc import Callable
from typing import Any, Self

from fairyring.service.storage.audit import Audit
from fairyring.service.storage.database import Database, Lease
from fairyring.service.storage.enrolment import Devices, Tokens
from fairyring.service.storage.leases import Leases
from fairyring.service.storage.nonces import Nonces
from fairyring.service.storage.operators import Operators
from fairyring.service.storage.runs import Runs
from fairyring.service.storage.session_log import SessionLog
from fairyring.service.storage.sessions import Sessions


class Storage:
    """A database, and what is in it. `with Storage(url) as kept:` opens and closes it.

    Args:
        url: see `Database`.
        now: see `Database`.
        durable: see `Database`.
        hasher: see `Operators`.

    Raises:
        PlanError, MissingExtra, StorageError: see `Database` and `Database.open`.

    Attributes:
        database: a `Database`.
        tokens, devices, operators, audit, runs, leases, sessions, nonces: what is in it.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        now: Callable[[], float] = time.time,
        durable: bool = False,
        hasher: Any = None,
    ) -> None:
        self.database = Database(url, now=now, durable=durable)
        self.tokens = Tokens(self.database)
        self.devices = Devices(self.database)
        self.operators = Operators(self.database, hasher=hasher)
        self.audit = Audit(self.database)
        self.runs = Runs(self.database)
        self.leases = Leases(self.database)
        self.sessions = Sessions(self.database)
        self.nonces = Nonces(self.database)

    def log(self, session: bytes, lease: Lease | None = None) -> SessionLog:
        """The log of a session; see `SessionLog`."""
        return SessionLog(self.database, session, lease)

    def open(self) -> Self:
        """Connect; see `Database.open`. Returns itself."""
        self.database.open()
        return self

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()
