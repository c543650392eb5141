"""Which devices may take part: enrolled by a token with a quota, or by a list; and revoked."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, insert, or_, select, update

from fairyring.core.errors import EnrolmentRefused
from fairyring.service.storage.database import Database
from fairyring.service.storage.schema import devices, offences, tokens
from fairyring.service.storage.values import identifier, line, time_of, whole
from fairyring.service.storage.values import key as checked_key

_TOKEN_BYTES = 24
_LONGEST_TOKEN = 200  # characters
_CHUNK = 500  # keys in one query


class Token(NamedTuple):
    """A token for enrolment, without its text.

    Attributes:
        digest: SHA-256 of its text.
        quota: how many devices it enrols at most.
        used: how many it has enrolled.
        expires: when it ends, in seconds since 1970.
        created: when it was made.
    """

    digest: bytes
    quota: int
    used: int
    expires: float
    created: float


class Device(NamedTuple):
    """A device that was enrolled.

    Attributes:
        key: its public key, 32 bytes.
        name: what it calls itself.
        enrolled: when, in seconds since 1970.
        token: digest of the token that it used; None if it was on a list.
        revoked: when it was revoked, or None.
        reason: why it was revoked.
        seen: when it was last heard of, or None.
        version: of its program, as it said.
        runtime: what it computes with, as it said.
    """

    key: bytes
    name: str
    enrolled: float
    token: bytes | None
    revoked: float | None
    reason: str
    seen: float | None
    version: str
    runtime: str


class Seen(NamedTuple):
    """What a device said when it was last heard of: the time in seconds since 1970, its version, its runtime."""

    time: float
    version: str
    runtime: str


class Tokens:
    """The tokens for enrolment. Only a digest of each is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, quota: int, expires: float) -> str:
        """A new token, which is shown once.

        Args:
            quota: how many devices it enrols at most.
            expires: when it ends, in seconds since 1970.
        """
        text = secrets.token_urlsafe(_TOKEN_BYTES)
        values = {
            "digest": _digest(text),
            "quota": whole(quota, "quota of a token", least=1),
            "used": 0,
            "expires": time_of(expires, "end of a token"),
            "created": self._database.now(),
        }
        self._database.run("create a token", lambda c: c.execute(insert(tokens), values) and None)
        return text

    def list(self) -> list[Token]:
        """All tokens, oldest first."""
        wanted = select(tokens).order_by(tokens.c.created, tokens.c.digest)
        rows = self._database.read("tokens", lambda c: c.execute(wanted).all())
        return [Token(**row._mapping) for row in rows]

    def end(self, digest: bytes) -> bool:
        """Let a token enrol nobody any more. False if none that is valid has this digest."""
        now = self._database.now()
        ended = update(tokens).where(tokens.c.digest == digest, tokens.c.expires > now).values(expires=now)
        return self._database.run("end a token", lambda c: c.execute(ended).rowcount == 1)


class Devices:
    """The devices that may take part, and those that may not any more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enrol(self, token: str, key: bytes, name: str = "") -> Device:
        """Enrol a device. The same key again changes nothing and needs no token, so a device that got no answer can repeat it.

        Args:
            token: what `Tokens.create` gave.
            key: the device's public key, 32 bytes.
            name: what the device calls itself.

        Raises:
            EnrolmentRefused: the token is unknown, expired or used up, or the device was revoked.
        """
        checked_key(key, "key of a device")
        line(name, "name of a device")
        digest = _digest(token)

        def admit(connection: Connection) -> Device:
            row = connection.execute(_with(key)).one_or_none()
            if row is None:
                self._use(connection, digest)
                connection.execute(insert(devices), _new(key, name, self._database.now(), digest))
            elif row.revoked is not None:
                raise _refused("a device that was revoked", "a device in good standing")
            elif name and not row.name:  # it was on a list, without one
                connection.execute(update(devices).where(devices.c.key == key), {"name": name})
            return _device(connection.execute(_with(key)).one())

        return self._database.run("enrol a device", admit)

    def _use(self, connection: Connection, digest: bytes) -> None:
        now = self._database.now()
        wanted = select(tokens).where(tokens.c.digest == digest).with_for_update()
        row = connection.execute(wanted).one_or_none()
        if row is None:
            raise _refused("a token that is not one of this service", "one that its operator gave out")
        if now >= row.expires:
            raise _refused("a token that has expired", "one that is valid")
        if row.used >= row.quota:
            raise _refused("a token that has enrolled as many devices as it may", "one that is not used up")
        connection.execute(update(tokens).where(tokens.c.digest == digest), {"used": row.used + 1})

    def allow(self, keys: Iterable[bytes]) -> int:
        """Enrol devices from a list, without tokens. Those that are known already stay as they are. Returns how many are new."""
        wanted = list(dict.fromkeys(checked_key(key, "key of a device") for key in keys))

        def admit(connection: Connection) -> int:
            now, new = self._database.now(), 0
            for start in range(0, len(wanted), _CHUNK):
                some = wanted[start : start + _CHUNK]
                known = set(connection.scalars(select(devices.c.key).where(devices.c.key.in_(some))))
                if rows := [_new(key, "", now, None) for key in some if key not in known]:
                    connection.execute(insert(devices), rows)
                new += len(rows)
            return new

        return self._database.run("allow devices", admit)

    def get(self, key: bytes) -> Device | None:
        """The device with this key; None if it was never enrolled."""
        row = self._database.read("a device", lambda c: c.execute(_with(key)).one_or_none())
        return None if row is None else _device(row)

    def several(self, keys: Sequence[bytes]) -> list[Device | None]:
        """The devices with these keys, in their order; None for those that were never enrolled."""

        def find(connection: Connection) -> dict[bytes, Device]:
            found: dict[bytes, Device] = {}
            for start in range(0, len(keys), _CHUNK):
                some = devices.c.key.in_(keys[start : start + _CHUNK])
                found |= {row.key: _device(row) for row in connection.execute(select(devices).where(some))}
            return found

        found = self._database.read("devices", find)
        return [found.get(key) for key in keys]

    def all(self) -> list[Device]:
        """All devices, by key."""
        rows = self._database.read(
            "devices", lambda c: c.execute(select(devices).order_by(devices.c.key)).all()
        )
        return [_device(row) for row in rows]

    def page(self, after: bytes = b"", limit: int = 100) -> list[Device]:
        """The next devices, by key.

        Args:
            after: the key of the last device of the page before; empty for the first page.
            limit: how many at most.
        """
        wanted = select(devices).where(devices.c.key > after).order_by(devices.c.key).limit(limit)
        return [_device(row) for row in self._database.read("devices", lambda c: c.execute(wanted).all())]

    def count(self) -> int:
        """How many devices are enrolled and not revoked."""
        wanted = select(func.count()).select_from(devices).where(devices.c.revoked.is_(None))
        return self._database.read("number of devices", lambda c: c.execute(wanted).scalar_one())

    def fleet(self) -> dict[tuple[str, str], int]:
        """How many devices that are not revoked said which version and runtime."""
        of = devices.c.version, devices.c.runtime
        wanted = select(*of, func.count()).where(devices.c.revoked.is_(None)).group_by(*of).order_by(*of)
        rows = self._database.read("fleet", lambda c: c.execute(wanted).all())
        return {(version, runtime): count for version, runtime, count in rows}

    def revoke(self, key: bytes, reason: str) -> bool:
        """Let a device take part no more. False if it is unknown, or was revoked already."""
        line(reason, "reason of a revocation", most=1000)
        held = update(devices).where(devices.c.key == key, devices.c.revoked.is_(None))
        values = {"revoked": self._database.now(), "reason": reason}
        return self._database.run("revoke a device", lambda c: c.execute(held, values).rowcount == 1)

    def offend(self, key: bytes, session: bytes) -> int:
        """Note that a device broke the protocol in a session; once, however often it is said. Returns in how many sessions it did."""
        values = {
            "device": checked_key(key, "key of a device"),
            "session": identifier(session, "identity of a session"),
        }
        of = offences.c.device == key

        def note(connection: Connection) -> int:
            known = select(offences.c.at).where(of, offences.c.session == session)
            if connection.execute(known).first() is None:
                connection.execute(insert(offences), {**values, "at": self._database.now()})
            return connection.execute(select(func.count()).select_from(offences).where(of)).scalar_one()

        return self._database.run("note an offence", note)

    def seen(self, devices_seen: Mapping[bytes, tuple[float, str, str]]) -> None:
        """Note what devices said, all in one transaction. Unknown keys, and older news than is known, are left out.

        Args:
            devices_seen: a device's key -> `Seen`.
        """
        rows = [
            {
                "of": key,
                "at": time_of(at, "time of a device"),
                "says": line(version, "version of a device"),
                "uses": line(runtime, "runtime of a device"),
            }
            for key, (at, version, runtime) in sorted(devices_seen.items())
        ]
        values = {"seen": bindparam("at"), "version": bindparam("says"), "runtime": bindparam("uses")}
        newer = or_(devices.c.seen.is_(None), devices.c.seen < bindparam("at"))
        noted = update(devices).where(devices.c.key == bindparam("of"), newer).values(values)
        if rows:
            self._database.run("note devices seen", lambda c: c.execute(noted, rows) and None)


def _digest(token: str) -> bytes:
    # One that is too long is none of ours, and not worth hashing.
    return hashlib.sha256(token[: _LONGEST_TOKEN + 1].encode("utf-8", "replace")).digest()


def _with(key: bytes) -> Any:
    return select(devices).where(devices.c.key == key)


def _new(key: bytes, name: str, now: float, token: bytes | None) -> dict[str, Any]:
    kept = {"key": key, "name": name, "enrolled": now, "token": token}
    return kept | {"reason": "", "version": "", "runtime": ""}


def _device(row: Row[Any]) -> Device:
    return Device(**row._mapping)


def _refused(given: str, expected: str) -> EnrolmentRefused:
    return EnrolmentRefused(
        "enrolment", given=given, expected=expected, do="Ask the service's operator for a new token."
    )
