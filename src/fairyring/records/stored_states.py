"""The clients' own states in a run folder, one row for each client in a memory-mapped file, safe against a crash at any moment.

Between checkpoints new rows go to a journal named after the checkpoint they follow, never to the table. A checkpoint
flushes the journal and records its name and length; only after the checkpoint itself is on the disk are the rows
moved into the table. A run that resumes from a checkpoint finds either the journal that it names, whose rows are moved
(again: the same rows to the same places), or none, because they were moved already. Any other journal is of rounds that
will be run again, and is dropped.

A state has no noise in it: a control variate of SCAFFOLD is a client's gradient, and a gradient gives examples away. So the
states of a private run are for their owner alone, and are deleted when the run is over.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fairyring.core.errors import RunDamaged, RunError
from fairyring.core.files import ANYBODY, OWNER, append_to, make_folder, storage
from fairyring.core.platforms import flush_folder
from fairyring.records.layout import STATE_TABLE, STATES
from fairyring.records.states import ClientStates

Tree = Any


class StoredStates(ClientStates):
    """States of all clients, each a pytree like `example`, in files.

    Args:
        clients: how many clients there are.
        example: the state of a client before its first round.
        folder: where the table and the journal are kept.
        private: whether the files are for their owner alone.
    """

    def __init__(self, clients: int, example: Tree, folder: Path, *, private: bool = False) -> None:
        super().__init__(clients, example)
        fields = [("client", np.int64)] + [
            (f"leaf{i}", leaf.dtype, leaf.shape) for i, leaf in enumerate(self.leaves)
        ]
        self.record = np.dtype(fields)
        self.row = np.dtype([("seen", np.bool_), *fields[1:]])
        self.folder = folder
        self.mode = OWNER if private else ANYBODY
        self.dirty: dict[int, int] = {}  # client -> its newest place in the journal
        self.length = 0
        make_folder(folder, private=private)
        path = folder / STATE_TABLE
        if not _there(path):
            with append_to(path, mode=self.mode) as file:
                file.truncate(max(1, clients) * self.row.itemsize)  # sparse: unseen clients take no room
        elif path.stat().st_size != max(1, clients) * self.row.itemsize:
            raise RunDamaged(
                str(path),
                given=f"{path.stat().st_size} bytes",
                expected=f"{clients} states of {self.row.itemsize} bytes",
                do="Resume with the plan and population of the run.",
            )
        self.table = np.memmap(path, self.row, "r", shape=(max(1, clients),))
        self.base = 0

    @property
    def facts(self) -> dict[str, int]:
        """What a checkpoint must remember of the journal."""
        return {"journal": self.base, "journal_rows": self.length}

    def begin(self, round: int) -> None:
        """Start an empty journal for what follows the checkpoint of `round`; drop any other."""
        for old in self.folder.glob("journal-*.bin"):
            old.unlink()
        self.base, self.length = round, 0
        self.dirty.clear()
        self._journal(round).touch(self.mode)
        flush_folder(self.folder)

    def read(self, clients: np.ndarray, room: int) -> Tree:
        """States of `clients`, as a pytree of arrays `[room, ...]`; places past the clients hold the first state."""
        stacked = self._first(room)
        for place, client in enumerate(clients):
            if client in self.dirty:
                row = self._journalled(self.dirty[int(client)])
            elif self.table[client]["seen"]:
                row = self.table[client]
            else:
                continue
            for i, leaf in enumerate(stacked):
                leaf[place] = row[f"leaf{i}"]
        return jax.tree.unflatten(self.treedef, stacked)

    def write(self, clients: np.ndarray, states: Tree) -> None:
        """New states of `clients`; the first `len(clients)` rows of `states`."""
        rows = np.zeros(len(clients), self.record)
        rows["client"] = clients
        for i, leaf in enumerate(jax.tree.leaves(states)):
            rows[f"leaf{i}"] = np.asarray(leaf)[: len(clients)]
        path = self._journal(self.base)
        with storage(path), append_to(path, mode=self.mode) as journal:
            journal.write(rows.tobytes())
        for i, client in enumerate(clients):
            self.dirty[int(client)] = self.length + i
        self.length += len(clients)

    def flush(self) -> None:
        """Flush the journal to disk: to be called before a checkpoint that holds `facts` is saved."""
        path = self._journal(self.base)
        with storage(path), append_to(path, mode=self.mode) as journal:
            os.fsync(journal.fileno())

    def settle(self, round: int) -> None:
        """Move the journal into the table, once the checkpoint of `round` is saved, and begin the next."""
        self._move(self._journal(self.base), self.length)
        self.begin(round)

    def recover(self, facts: Mapping[str, int], round: int) -> None:
        """Bring the table to the state at the checkpoint of `round`, whose facts are given, whatever a crash left behind.

        Raises:
            RunDamaged: the table is that of a later checkpoint, which is gone.
        """
        later = [name for name in map(_base, self.folder.glob("journal-*.bin")) if name > round]
        if later:
            raise RunDamaged(
                str(self.folder),
                given=f"the states of clients after round {max(later)}",
                expected=f"those after round {round}, of the last checkpoint there is: training would mix the two",
                do="Put the later checkpoint back from a copy, or start a new run.",
            )
        path = self._journal(facts["journal"])
        if path.exists():
            self._move(path, facts["journal_rows"])
        self.begin(round)

    def _journal(self, round: int) -> Path:
        return self.folder / f"journal-{round:06d}.bin"

    def _move(self, journal: Path, length: int) -> None:
        path = self.folder / STATE_TABLE
        # Written as a file, not through memory: on a full disk a write fails, while a page of memory that has no place there ends
        # the process.
        with storage(path), open(journal, "rb") as file, open(path, "r+b") as table:
            for begin in range(0, length, 4096):
                count = min(4096, length - begin)
                for row in np.frombuffer(file.read(count * self.record.itemsize), self.record):
                    settled = np.zeros(1, self.row)
                    settled[0] = self._settled(row)
                    table.seek(int(row["client"]) * self.row.itemsize)
                    table.write(settled.tobytes())
            table.flush()
            os.fsync(table.fileno())

    def _settled(self, row: np.void) -> tuple[Any, ...]:
        """A row of a journal as a row of the table. In order, a client's later state replaces its earlier one."""
        return (True, *(row[f"leaf{i}"] for i in range(len(self.leaves))))

    def _journalled(self, place: int) -> np.void:
        with open(self._journal(self.base), "rb") as journal:
            journal.seek(place * self.record.itemsize)
            return np.frombuffer(journal.read(self.record.itemsize), self.record)[0]


def check_states(run: Path, *, private: bool) -> None:
    """Raise `RunError` unless the states of a run's clients are there: training would go on from first states instead."""
    if has_table(run):
        return
    raise RunError(
        f"run folder {run}",
        given=f"no {STATES}/{STATE_TABLE}: the states of its clients are gone"
        + (", as they go when a private run is over" if private else ""),
        expected="the states its clients had after the last checkpoint",
        do="Start a new run; with keep_client_states=True they are kept, for the folder's owner alone; the privacy guarantee does not cover them."
        if private
        else "Restore them from a copy, or start a new run.",
    )


def has_table(run: Path) -> bool:
    """Whether the states of a run's clients are there: their table goes first when they are deleted."""
    return _there(run / STATES / STATE_TABLE)


def delete_states(run: Path) -> None:
    """Delete the states of a run's clients, if there are any."""
    folder = run / STATES
    for path in [folder / STATE_TABLE, *folder.glob("journal-*.bin")]:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or not ours alone
        folder.rmdir()


def _base(journal: Path) -> int:
    """The round whose checkpoint a journal follows."""
    return int(journal.stem.removeprefix("journal-"))


def _there(table: Path) -> bool:
    """Whether there is a table; a crash before its first row leaves an empty file."""
    return table.is_file() and table.stat().st_size > 0
