"""A ledger that is cut, edited or forged: it says that it is damaged, or it is whole."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fairyring.core.errors import FairyringError, LedgerDamaged
from fairyring.privacy.ledger import Entry, Head, Ledger
from tests.privacy.ledger_files import ALL, copied, open_, running
from tests.privacy.ledger_meter import noise


def tried(folder: Path, entries: tuple[Entry, ...]) -> bool:
    """Whether a ledger opens; if it does, all of it must be there, and go on."""
    try:
        ledger = open_(folder)
    except FairyringError:
        return False
    with ledger:
        assert ledger.entries() == entries
        try:
            ledger.reserve(99, noise())
        except FairyringError:
            return False  # SQLite may read a file that it will not write
        assert len(ledger.entries()) == len(entries) + 1
    return True


@pytest.fixture
def still(tmp_path: Path) -> tuple[Path, tuple[Entry, ...]]:
    """A closed ledger, and what is in it."""
    with running(tmp_path / "still") as ledger:
        entries = ledger.entries()
    return tmp_path / "still", entries


@pytest.fixture
def busy(tmp_path: Path) -> tuple[Path, tuple[Entry, ...]]:
    """What a kill leaves of one: the end of it is in the write-ahead log."""
    with running(tmp_path / "run") as ledger:
        return copied(tmp_path / "run", tmp_path / "busy", *ALL), ledger.entries()


def flipped(
    result: tuple[Path, tuple[Entry, ...]], name: str, tmp_path: Path, tries: int, seed: int = 0
) -> tuple[int, int]:
    """How many flips were noticed, of how many; those that were not did no harm."""
    folder, entries = result
    content = (folder / name).read_bytes()
    dice = random.Random(len(content) + seed)
    # Where something is written, more often than where nothing is.
    written = [at for at, byte in enumerate(content) if byte]
    noticed = 0
    for i in range(tries):
        at = dice.choice(written) if i % 4 else dice.randrange(len(content))
        copy = copied(folder, tmp_path / "flipped", *ALL)
        (copy / "ledger.sqlite-shm").unlink(missing_ok=True)
        bad = bytearray(content)
        bad[at] ^= 1 << dice.randrange(8)
        (copy / name).write_bytes(bad)
        noticed += not tried(copy, entries)
    return noticed, tries


def test_a_flipped_bit_of_the_database_is_noticed_or_harmless(still, tmp_path: Path) -> None:
    noticed, tries = flipped(still, "ledger.sqlite", tmp_path, 500)
    assert noticed > tries / 2


def test_a_flipped_bit_of_the_log_is_noticed_or_harmless(busy, tmp_path: Path) -> None:
    noticed, tries = flipped(busy, "ledger.sqlite-wal", tmp_path, 300)
    assert noticed > 0
    noticed, tries = flipped(busy, "ledger.head", tmp_path, 60)
    assert noticed == tries


@pytest.mark.slow
@pytest.mark.campaign(10)
def test_many_more_flipped_bits(part: int, still, busy, tmp_path: Path) -> None:
    flipped(still, "ledger.sqlite", tmp_path, 100, seed=part + 1)
    flipped(busy, "ledger.sqlite-wal", tmp_path, 100, seed=part + 1)
    flipped(busy, "ledger.sqlite", tmp_path, 100, seed=part + 1)


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.sqlite-wal"])
def test_a_file_that_was_cut(busy, tmp_path: Path, name: str) -> None:
    folder, entries = busy
    size = (folder / name).stat().st_size
    opened = []
    for length in [*range(0, size, size // 60), size - 1]:
        copy = copied(folder, tmp_path / "cut", *ALL)
        (copy / "ledger.sqlite-shm").unlink(missing_ok=True)
        os.truncate(copy / name, length)
        if tried(copy, entries):
            opened.append(length)
    # A log cut within its last, empty part lacks nothing; SQLite rebuilds the database from the log it was left.
    assert 0 not in opened
    assert name == "ledger.sqlite" or size - 1 not in opened


EDITS = [
    "UPDATE ledger SET number = 90 WHERE number = 5",
    "UPDATE ledger SET kind = 'release' WHERE number = 1",
    "UPDATE ledger SET round = 8 WHERE number = 1",
    "UPDATE ledger SET time = time + 0.001 WHERE number = 3",
    "UPDATE ledger SET data = replace(data, '1.0', '9.0') WHERE number = 1",
    "UPDATE ledger SET data = replace(data, '1000000.0', '2000000.0') WHERE number = 0",
    "UPDATE ledger SET data = CAST(data AS BLOB) WHERE number = 3",
    "UPDATE ledger SET round = 'many' WHERE number = 3",
    "UPDATE ledger SET previous = hash WHERE number = 3",
    "UPDATE ledger SET hash = upper(hash) WHERE number = 3",
    "UPDATE ledger SET hash = 'é' WHERE number = 3",
    "DELETE FROM ledger WHERE number = 0",
    "DELETE FROM ledger WHERE number = 4",
    "DELETE FROM ledger WHERE number = (SELECT max(number) FROM ledger)",
    "DELETE FROM ledger",
    "DROP TABLE ledger",
    "INSERT INTO ledger SELECT number + 1, kind, round, time, data, hash, hash FROM ledger ORDER BY number DESC LIMIT 1",
    "CREATE TRIGGER t AFTER INSERT ON ledger BEGIN DELETE FROM ledger WHERE number = new.number; END",
    "CREATE TABLE other (a)",
    "ALTER TABLE ledger ADD COLUMN more",
    "ALTER TABLE ledger RENAME TO former",
]


@pytest.mark.parametrize("edit", EDITS)
def test_a_row_that_was_edited(still, edit: str) -> None:
    folder, _ = still
    edited(folder, edit)
    with pytest.raises(LedgerDamaged):
        open_(folder)
    with pytest.raises(LedgerDamaged):
        Ledger.read(folder / "ledger.sqlite")


def edited(folder: Path, *statements: str) -> None:
    database = sqlite3.connect(folder / "ledger.sqlite")
    with database:
        for statement in statements:
            assert database.execute(statement).rowcount  # none would mean that nothing was edited
    database.close()


def test_a_chain_that_was_forged_from_the_beginning_is_not_the_one_the_head_names(still) -> None:
    folder, entries = still
    forged, previous = [], "0" * 64
    for entry in entries:
        cheaper = msgspec.structs.replace(entry, data=entry.data.replace("1.0}", "9.0}"), previous=previous)
        forged.append(msgspec.structs.replace(cheaper, hash=cheaper.expected()))
        previous = forged[-1].hash
    database = sqlite3.connect(folder / "ledger.sqlite")
    with database:
        database.execute("DELETE FROM ledger")
        database.executemany(
            "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", map(msgspec.structs.astuple, forged)
        )
    database.close()
    with pytest.raises(LedgerDamaged, match=r"another entry \d+ than the one .*ledger.head names"):
        open_(folder)
    (folder / "ledger.head").unlink()
    with pytest.raises(LedgerDamaged, match="a head noted before"):
        open_(folder, anchor=Head(entries[-1].number, entries[-1].hash))


IMPOSSIBLE = {
    "a gap": {"number": 4},
    "a time that went back": {"time": 0.0},
    "a time that is none": {"time": float("inf")},
    "a second promise": {"kind": "promise", "round": -1},
    "an unknown kind": {"kind": "refund"},
    "an unknown fact": {"data": '{"release":{"mechanism":"gaussian","multiplier":1.0},"twice":true}'},
    "no facts": {"data": "{}"},
    "not JSON": {"data": "{"},
    "of no reservation": {"kind": "release", "data": '{"reservation":2,"digest":"00"}'},
    "of the promise": {"kind": "release", "data": '{"reservation":0,"digest":"00"}'},
    "of another round": {"kind": "release", "round": 5, "data": '{"reservation":1,"digest":"00"}'},
    "a second release": [{"kind": "release", "data": '{"reservation":1,"digest":"00"}'}] * 2,
    "an amendment too late": [
        {"kind": "release", "data": '{"reservation":1,"digest":"00"}'},
        {"kind": "amend", "data": '{"reservation":1,"release":{"mechanism":"gaussian","multiplier":9.0}}'},
    ],
    "a release of what is withheld": [
        {"kind": "withhold", "data": '{"reservation":1}'},
        {"kind": "release", "data": '{"reservation":1,"digest":"00"}'},
    ],
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_entries_that_are_chained_and_cannot_be(tmp_path: Path, what: str) -> None:
    """Hashes do not say that entries make sense: whoever writes them can chain anything."""
    with open_(tmp_path) as ledger:
        ledger.reserve(0, noise())
        last = ledger.entries()[-1]
    changes = IMPOSSIBLE[what] if isinstance(IMPOSSIBLE[what], list) else [IMPOSSIBLE[what]]
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    for n, change in enumerate(changes):
        following = {"number": last.number + 1, "previous": last.hash} | change
        last = msgspec.structs.replace(last, **following)
        last = msgspec.structs.replace(last, hash=last.expected())
        if n == len(changes) - 1:
            database.commit()
            Ledger.read(tmp_path / "ledger.sqlite")  # all but the last one can be
        database.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(last))
    database.commit()
    database.close()
    with pytest.raises(LedgerDamaged):
        Ledger.read(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder, old: edited(
            folder, "DELETE FROM ledger WHERE number = (SELECT max(number) FROM ledger)"
        ),
        lambda folder, old: edited(
            folder, "UPDATE ledger SET time = 0 WHERE number = (SELECT max(number) FROM ledger)"
        ),
        lambda folder, old: edited(folder, EDITS[-3].replace("other", "beside")),
        lambda folder, old: os.replace(old / "ledger.sqlite", folder / "ledger.sqlite"),
        lambda folder, old: (folder / "ledger.sqlite").unlink(),
        lambda folder, old: (folder / "ledger.head").unlink(),
        lambda folder, old: shutil.copy(old / "ledger.head", folder / "ledger.head"),
    ],
    ids=["deleted", "edited", "beside", "replaced", "unlinked", "no head", "another's head"],
)
def test_a_running_ledger_notices_at_the_next_reservation(tmp_path: Path, change: Callable) -> None:
    with running(tmp_path / "other", 9):
        pass
    with running(tmp_path / "run") as ledger:
        change(tmp_path / "run", tmp_path / "other")
        for _ in range(2):
            with pytest.raises(LedgerDamaged):
                ledger.reserve(9, noise())


@pytest.mark.parametrize("content", [b"something else" * 100, b"SQLite format 3\0" + bytes(4080)])
def test_another_file_in_its_place(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(content)
    with pytest.raises(LedgerDamaged):
        open_(tmp_path)
    assert (tmp_path / "ledger.sqlite").read_bytes() == content


def test_anothers_database_is_left_alone(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    database.execute("CREATE TABLE theirs (a)")
    database.close()
    before = (tmp_path / "ledger.sqlite").read_bytes()
    with pytest.raises(LedgerDamaged, match="something else"):
        open_(tmp_path)
    assert (tmp_path / "ledger.sqlite").read_bytes() == before
