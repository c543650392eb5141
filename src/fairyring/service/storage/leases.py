"""Leases: of many processes one does a piece of work, and one that was away too long can write nothing of it any more."""

from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update

from fairyring.service.storage.database import Database, Lease
from fairyring.service.storage.schema import leases
from fairyring.service.storage.values import line, time_of

__all__ = ["Holder", "Lease", "Leases"]


class Holder(NamedTuple):
    """Who holds a lease.

    Attributes:
        owner: who.
        address: where it is reached, if it said so.
        until: when the lease expires, in seconds since 1970.
    """

    owner: str
    address: str
    until: float


class Leases:
    """The leases in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, owner: str, seconds: float, *, address: str = "") -> Lease | None:
        """Take a lease that is free, expired, or the owner's already. None if another has it.

        Each time it is taken its fence grows, so that what was held before under the same name is worthless from then on.

        Args:
            name: of the work.
            owner: who takes it. Processes that are alive at the same time have different names.
            seconds: until it expires.
            address: where the owner is reached.
        """
        line(name, "name of a lease")
        line(owner, "owner of a lease")
        line(address, "address of a lease's owner")
        time_of(seconds, "seconds of a lease")

        def take(connection: Connection) -> Lease | None:
            now = self._database.now()
            wanted = select(leases).where(leases.c.name == name).with_for_update()
            row = connection.execute(wanted).one_or_none()
            if row is not None and row.owner not in ("", owner) and now < row.until:
                return None
            fence = 1 if row is None else row.fence + 1
            values = {"owner": owner, "address": address, "fence": fence, "until": now + seconds}
            if row is None:
                connection.execute(insert(leases), {"name": name, **values})
            else:
                connection.execute(update(leases).where(leases.c.name == name), values)
            return Lease(name, owner, fence)

        return self._database.run("take a lease", take)

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Let a lease last for so many seconds from now. False if it has expired, or was taken."""
        time_of(seconds, "seconds of a lease")

        def extend(connection: Connection) -> bool:
            now = self._database.now()
            held = update(leases).where(*_is(lease), leases.c.until > now)
            return connection.execute(held, {"until": now + seconds}).rowcount == 1

        return self._database.run("renew a lease", extend)

    def release(self, lease: Lease) -> None:
        """Give a lease back, so that others need not wait. Nothing happens if it was taken meanwhile."""

        def free(connection: Connection) -> None:
            connection.execute(update(leases).where(*_is(lease)), {"owner": "", "address": "", "until": 0.0})

        self._database.run("release a lease", free)

    def holder(self, name: str) -> Holder | None:
        """Who holds a lease; None if nobody does."""
        wanted = select(leases.c.owner, leases.c.address, leases.c.until).where(leases.c.name == name)
        row = self._database.read("holder of a lease", lambda c: c.execute(wanted).one_or_none())
        if row is None or not row.owner or self._database.now() >= row.until:
            return None
        return Holder(*row)


def _is(lease: Lease):
    return leases.c.name == lease.name, leases.c.owner == lease.owner, leases.c.fence == lease.fence
