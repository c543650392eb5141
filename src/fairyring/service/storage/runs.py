"""Runs: what was submitted, what is wanted of it, and how far it is."""

import json
import secrets
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import Connection, Row, insert, select, update

from fairyring.core.errors import PlanError, RunError, RunMismatch
from fairyring.service.storage import audit
from fairyring.service.storage.database import Database, Lease
from fairyring.service.storage.schema import runs
from fairyring.service.storage.values import document, identifier, line
from fairyring.service.storage.values import key as checked_key

Wanted = Literal["run", "pause", "cancel"]
State = Literal["queued", "running", "paused", "finished", "failed", "cancelled"]
OVER: tuple[State, ...] = ("finished", "failed", "cancelled")  # states that a run does not leave
_ID_BYTES = 5


class Run(NamedTuple):
    """A run, as it is stored.

    Attributes:
        id: ten hexadecimal digits.
        name: as its submitter calls it.
        manifest: digest of its signed manifest, 32 bytes.
        author: public key of the manifest's author, 32 bytes.
        settings: how it is to be run.
        wanted: what operators want: `run`, `pause` or `cancel`.
        state: what it does: `queued`, `running`, `paused`, `finished`, `failed` or `cancelled`.
        progress: how far it is.
        created: when it was submitted, in seconds since 1970.
        updated: when state or progress last changed.
    """

    id: str
    name: str
    manifest: bytes
    author: bytes
    settings: dict[str, Any]
    wanted: Wanted
    state: State
    progress: dict[str, Any]
    created: float
    updated: float


class Runs:
    """The runs of a service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(
        self,
        name: str,
        manifest: bytes,
        author: bytes,
        settings: Mapping[str, Any],
        *,
        by: str = "",
        request: bytes | None = None,
    ) -> str:
        """Add a run, and note it in the audit log. Returns its id.

        Args:
            name: for people.
            manifest: digest of the signed manifest, 32 bytes.
            author: public key of the manifest's author, 32 bytes.
            settings: what JSON has.
            by: who submits it.
            request: 1 to 64 bytes that the submitter chose. The same again gives the same run.

        Raises:
            RunMismatch: another run was submitted with the same `request`.
        """
        values = {
            "request": None if request is None else identifier(request, "request of a submission"),
            "name": line(name, "name of a run"),
            "manifest": checked_key(manifest, "digest of a manifest"),
            "author": checked_key(author, "key of an author"),
            "settings": document(settings, "settings of a run"),
        }

        def add(connection: Connection) -> str:
            if request is not None and (
                known := connection.execute(select(runs).where(runs.c.request == request)).first()
            ):
                if any(known._mapping[field] != value for field, value in values.items()):
                    raise RunMismatch(
                        "submission of a run",
                        given="another run under the same request",
                        expected="the run that was submitted with it",
                        do="Choose a new request for a new run.",
                    )
                return known.id
            now, run = self._database.now(), secrets.token_hex(_ID_BYTES)
            begun = {"wanted": "run", "state": "queued", "progress": "{}", "created": now, "updated": now}
            connection.execute(insert(runs), {"id": run, **values, **begun})
            audit.add(connection, now, by, "submit", {"run": run, "name": name, "manifest": manifest.hex()})
            return run

        return self._database.run("submit a run", add)

    def get(self, run: str) -> Run | None:
        """The run with this id; None if there is none."""
        row = self._database.read(
            "a run", lambda c: c.execute(select(runs).where(runs.c.id == run)).one_or_none()
        )
        return None if row is None else _run(row)

    def all(self) -> list[Run]:
        """All runs, oldest first."""
        wanted = select(runs).order_by(runs.c.created, runs.c.id)
        return [_run(row) for row in self._database.read("runs", lambda c: c.execute(wanted).all())]

    def want(self, run: str, what: Wanted, by: str) -> None:
        """Say what is wanted of a run, and note in the audit log who did.

        Raises:
            RunError: there is no such run, it is over, or it was cancelled and something else is wanted.
        """
        if what not in get_args(Wanted):
            raise PlanError(
                "what is wanted of a run",
                given=f"{what!r}",
                expected=" or ".join(get_args(Wanted)),
                do="Choose one of them.",
            )

        def note(connection: Connection) -> None:
            row = _held(connection, run)
            if row.wanted == what:
                return
            if row.state in OVER or row.wanted == "cancel":
                raise _refused(
                    run,
                    f"{what!r} for a run that is {row.state if row.state in OVER else 'being cancelled'}",
                    "a run that goes on",
                )
            now = self._database.now()
            connection.execute(update(runs).where(runs.c.id == run), {"wanted": what, "updated": now})
            audit.add(connection, now, by, what, {"run": run})

        self._database.run("say what is wanted of a run", note)

    def update(
        self,
        run: str,
        state: State | None = None,
        progress: Mapping[str, Any] | None = None,
        *,
        lease: Lease | None = None,
    ) -> None:
        """Say what a run does, or how far it is.

        Raises:
            RunError: there is no such run, or it is over and another state is given.
            LeaseLost: see `Database.run`.
        """
        if state is not None and state not in get_args(State):
            raise PlanError(
                "state of a run",
                given=f"{state!r}",
                expected=" or ".join(get_args(State)),
                do="Choose one of them.",
            )
        values: dict[str, Any] = {} if state is None else {"state": state}
        if progress is not None:
            values["progress"] = document(progress, "progress of a run")

        def note(connection: Connection) -> None:
            row = _held(connection, run)
            if row.state in OVER and state not in (None, row.state):
                raise _refused(run, f"{state!r} for a run that is {row.state}", "a run that is not over")
            connection.execute(
                update(runs).where(runs.c.id == run), {**values, "updated": self._database.now()}
            )

        self._database.run("update a run", note, lease=lease)


def _held(connection: Connection, run: str) -> Row[Any]:
    row = connection.execute(select(runs).where(runs.c.id == run).with_for_update()).one_or_none()
    if row is None:
        raise _refused(run, "no such run", "the id of a run")
    return row


def _run(row: Row[Any]) -> Run:
    values = dict(row._mapping)
    del values["request"]
    return Run(**{**values, "settings": json.loads(row.settings), "progress": json.loads(row.progress)})


def _refused(run: str, given: str, expected: str) -> RunError:
    return RunError(f"run {run[:20]!r}", given=given, expected=expected, do="Look at the list of runs.")
