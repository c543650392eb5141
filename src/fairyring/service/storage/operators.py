"""Operators: who may look, who may act, and their logins of the web page."""

import hashlib
import secrets
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import Connection, delete, insert, select, update

from fairyring.core.errors import MissingExtra, PlanError
from fairyring.service.storage.database import Database
from fairyring.service.storage.schema import logins, operators
from fairyring.service.storage.values import line

Role = Literal["viewer", "operator"]
LOGIN_SECONDS = 12 * 3600.0
_SHORTEST, _LONGEST = 8, 1000  # characters of a password


class Operator(NamedTuple):
    """An operator's name and role: a `viewer` looks, an `operator` acts too."""

    name: str
    role: Role


class Operators:
    """The operators of a service.

    Args:
        database: where they are kept.
        hasher: an `argon2.PasswordHasher`; by default one with argon2's own costs.

    Raises:
        MissingExtra: argon2 is not installed.
    """

    def __init__(self, database: Database, *, hasher: Any = None) -> None:
        self._database = database
        try:
            import argon2
        except ImportError as error:
            raise MissingExtra("argon2", extra="service", purpose="passwords of operators") from error
        self._wrong = (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError)
        self._hasher = argon2.PasswordHasher() if hasher is None else hasher

    def add(self, name: str, password: str, role: Role) -> None:
        """Add an operator.

        Raises:
            PlanError: the name is taken or empty, the password is too short, or there is no such role.
        """
        kept = self._hash(password)
        values = {"name": line(name, "name of an operator"), "password": kept, "role": _role(role)}
        if not name:
            raise PlanError("name of an operator", given="none", expected="a name", do="Choose one.")

        def enter(connection: Connection) -> None:
            if connection.execute(select(operators.c.name).where(operators.c.name == name)).first():
                raise PlanError(
                    "name of an operator",
                    given=f"{name!r}, which is taken",
                    expected="a new name",
                    do="Choose another.",
                )
            connection.execute(insert(operators), {**values, "created": self._database.now()})

        self._database.run("add an operator", enter)

    def change(self, name: str, *, password: str | None = None, role: Role | None = None) -> bool:
        """Give an operator another password or role, and end its logins. False if there is none of this name."""
        values = {}
        if password is not None:
            values["password"] = self._hash(password)
        if role is not None:
            values["role"] = _role(role)

        def alter(connection: Connection) -> bool:
            connection.execute(delete(logins).where(logins.c.name == name))
            if not values:
                return (
                    connection.execute(select(operators.c.name).where(operators.c.name == name)).first()
                    is not None
                )
            return connection.execute(update(operators).where(operators.c.name == name), values).rowcount == 1

        return self._database.run("change an operator", alter)

    def remove(self, name: str) -> bool:
        """Remove an operator with all its logins. False if there is none of this name."""

        def leave(connection: Connection) -> bool:
            connection.execute(delete(logins).where(logins.c.name == name))
            return connection.execute(delete(operators).where(operators.c.name == name)).rowcount == 1

        return self._database.run("remove an operator", leave)

    def all(self) -> list[Operator]:
        """All operators, by name."""
        wanted = select(operators.c.name, operators.c.role).order_by(operators.c.name)
        return [Operator(*row) for row in self._database.read("operators", lambda c: c.execute(wanted).all())]

    def check(self, name: str, password: str) -> Role | None:
        """The role of an operator; None for a wrong name or password, which take equally long."""
        wanted = select(operators.c.password, operators.c.role).where(operators.c.name == name)
        row = None
        if name.isprintable():
            row = self._database.read("an operator", lambda c: c.execute(wanted).one_or_none())
        try:
            self._hasher.verify(self._nobodys if row is None else row.password, password[: _LONGEST + 1])
        except self._wrong:
            return None
        return None if row is None or len(password) > _LONGEST else row.role

    def login(self, name: str, password: str, *, seconds: float = LOGIN_SECONDS) -> str | None:
        """A token for a login of the web page, which is shown once; None for a wrong name or password.

        Args:
            name: the operator's.
            password: the operator's.
            seconds: until the login ends.
        """
        if self.check(name, password) is None:
            return None
        token = secrets.token_urlsafe(32)

        def enter(connection: Connection) -> str | None:
            now = self._database.now()
            connection.execute(delete(logins).where(logins.c.expires <= now))
            if not connection.execute(select(operators.c.name).where(operators.c.name == name)).first():
                return None  # removed meanwhile
            connection.execute(
                insert(logins), {"digest": _digest(token), "name": name, "expires": now + seconds}
            )
            return token

        return self._database.run("log in", enter)

    def by_token(self, token: str) -> Operator | None:
        """Who logged in with this token; None if nobody did, or the login has ended."""
        wanted = (
            select(operators.c.name, operators.c.role)
            .join(logins, logins.c.name == operators.c.name)
            .where(logins.c.digest == _digest(token), logins.c.expires > self._database.now())
        )
        row = self._database.read("a login", lambda c: c.execute(wanted).one_or_none())
        return None if row is None else Operator(*row)

    def logout(self, token: str) -> None:
        """End a login."""
        gone = delete(logins).where(logins.c.digest == _digest(token))
        self._database.run("log out", lambda c: c.execute(gone) and None)

    @cached_property
    def _nobodys(self) -> str:
        """A password that nobody has, to be compared where there is no operator of a name."""
        return self._hasher.hash(secrets.token_urlsafe(32))

    def _hash(self, password: str) -> str:
        if not _SHORTEST <= len(password) <= _LONGEST:
            raise PlanError(
                "password of an operator",
                given=f"{len(password)} characters",
                expected=f"{_SHORTEST} to {_LONGEST}",
                do="Choose another one.",
            )
        return self._hasher.hash(password)


def _role(role: str) -> str:
    if role not in get_args(Role):
        raise PlanError(
            "role of an operator",
            given=f"{role!r}",
            expected=" or ".join(get_args(Role)),
            do="Choose one of them.",
        )
    return role


def _digest(token: str) -> bytes:
    return hashlib.sha256(token[:200].encode("utf-8", "replace")).digest()
