"""A ledger put back to an older copy, and one whose head is missing: what tells, and what cannot."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from fairyring.core.errors import LedgerDamaged
from fairyring.privacy.ledger import Head, Ledger
from tests.privacy.ledger_files import ALL, copied, open_, running, spend
from tests.privacy.ledger_meter import noise


def test_a_copy_made_while_it_runs_is_whole(tmp_path: Path) -> None:
    with running(tmp_path / "run") as ledger:
        copy = copied(tmp_path / "run", tmp_path / "copy", *ALL)
        with open_(copy) as again:
            assert again.entries() == ledger.entries()


@pytest.mark.parametrize("closed", [False, True], ids=["running", "closed"])
@pytest.mark.parametrize(
    "suffixes", [(".sqlite",), (".sqlite", ".sqlite-wal"), (".sqlite-wal",)], ids="+".join
)
def test_an_older_copy_of_the_database_is_known_by_the_head(
    tmp_path: Path, suffixes: tuple[str, ...], closed: bool
) -> None:
    run = tmp_path / "run"
    with running(run):
        old = copied(run, tmp_path / "old", *ALL)
    with open_(run) as ledger:
        spend(ledger, range(6, 9))
        entries = ledger.entries()
        now = copied(run, tmp_path / "now", *ALL)
    if closed:
        now = copied(run, now, *ALL)
        assert not (now / "ledger.sqlite-wal").exists()
    copied(old, now, *suffixes)
    for attempt in (lambda: open_(now).close(), lambda: Ledger.read(now / "ledger.sqlite")):
        try:
            attempt()
        except LedgerDamaged:
            continue
        # SQLite may find that an old log belongs to nothing here, and leave it aside.
        assert list(entries) == Ledger.read(now / "ledger.sqlite").entries
        assert ".sqlite" not in suffixes


def test_a_database_without_its_log_has_lost_its_end(tmp_path: Path) -> None:
    with running(tmp_path / "run"):
        copy = copied(tmp_path / "run", tmp_path / "copy", ".sqlite", ".head")
        with pytest.raises(LedgerDamaged):
            open_(copy)


def test_an_older_copy_of_the_whole_folder_shows_only_against_a_head_outside(tmp_path: Path) -> None:
    run, witness = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    with open_(run, witness=witness) as ledger:
        spend(ledger, range(4))
    old = copied(run, tmp_path / "old", *ALL)
    with open_(run, witness=witness) as ledger:
        spend(ledger, range(4, 6))
        head, entries = ledger.head, ledger.entries()
    assert msgspec.json.decode(witness.read_bytes(), type=Head) == head
    with open_(copied(old, tmp_path / "unseen", *ALL)) as ledger:  # what the folder alone cannot tell
        assert len(ledger.entries()) < len(entries)
        assert not ledger.contains(head)
    for outside in ({"witness": witness}, {"anchor": head}):
        with pytest.raises(LedgerDamaged, match="older copy"):
            open_(old, **outside)
        with pytest.raises(LedgerDamaged, match="older copy"):
            Ledger.read(old / "ledger.sqlite", **outside)
    shutil.rmtree(run)
    run.mkdir()
    with pytest.raises(LedgerDamaged, match="elsewhere names entry"):  # not a new ledger, either
        open_(run, witness=witness)
    with pytest.raises(LedgerDamaged, match="elsewhere names entry"):
        Ledger.read(run / "ledger.sqlite", witness=witness)


@pytest.mark.parametrize("which", ["head", "witness"])
def test_a_missing_head_wants_another_one(tmp_path: Path, which: str) -> None:
    witness = tmp_path / "elsewhere"
    with open_(tmp_path, witness=witness) as ledger:
        spend(ledger, range(3))
        seen = ledger.head
        spend(ledger, range(3, 5))
        last = ledger.head
    missing = witness if which == "witness" else tmp_path / "ledger.head"
    missing.unlink()
    with pytest.raises(LedgerDamaged, match=f"no {missing}"):
        open_(tmp_path, witness=witness)
    with pytest.raises(LedgerDamaged, match=f"no {missing}"):
        Ledger.read(tmp_path / "ledger.sqlite", witness=witness)
    with pytest.raises(LedgerDamaged, match="another entry"):
        open_(tmp_path, witness=witness, anchor=Head(seen.number, last.hash))
    assert not missing.exists()
    open_(tmp_path, witness=witness, anchor=seen).close()
    assert msgspec.json.decode(missing.read_bytes(), type=Head) == last
    open_(tmp_path, witness=witness).close()


def test_a_head_one_entry_behind_is_what_a_crash_leaves(tmp_path: Path) -> None:
    with open_(tmp_path) as ledger:
        assert (tmp_path / "ledger.head").exists()
        before = (tmp_path / "ledger.head").read_bytes()
        ledger.reserve(0, noise())
        last = ledger.head
    (tmp_path / "ledger.head").write_bytes(before)
    assert Ledger.read(tmp_path / "ledger.sqlite").head == last
    open_(tmp_path).close()
    assert msgspec.json.decode((tmp_path / "ledger.head").read_bytes(), type=Head) == last
    (tmp_path / "ledger.head").write_bytes(before)
    with open_(tmp_path) as ledger:
        assert ledger.tally().counts == {noise(): 1}


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"number":2}', b'{"number":"2","hash":"a"}', b"\xff", b"[]"]
)
def test_a_head_file_with_something_else_in_it(tmp_path: Path, content: bytes) -> None:
    with running(tmp_path) as ledger:
        (tmp_path / "ledger.head").write_bytes(content)
        with pytest.raises(LedgerDamaged, match=r"ledger\.head"):
            ledger.reserve(9, noise())
    with pytest.raises(LedgerDamaged, match=r"ledger\.head"):
        open_(tmp_path)


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from fairyring.privacy.ledger import Ledger
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(len(Ledger.read(Path(sys.argv[1])).entries))
"""


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "running"])
def test_a_ledger_in_a_folder_that_cannot_be_written_is_read(closed: bool) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        with running(folder) as ledger:
            entries = len(ledger.entries())
            if closed:
                ledger.close()
            for file in folder.iterdir():
                file.chmod(0o444)
            folder.chmod(0o555)
            command = [sys.executable, "-c", READ_AS_NOBODY, str(folder / "ledger.sqlite")]
            statement = subprocess.run(command, capture_output=True, text=True)
            folder.chmod(0o755)
    assert (statement.stdout, statement.stderr) == (f"{entries}\n", "")
