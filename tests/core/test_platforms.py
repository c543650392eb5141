"""What operating systems lack is worked around in one module: each absence is faked, as far as it can be told here."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairyring.core import platforms
from fairyring.core.errors import RunError
from fairyring.core.files import replace_file
from fairyring.core.lock import Lock


class Msvcrt:
    """Windows's locks: of bytes, by descriptor, and nobody else can lock them meanwhile."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.locked: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        key = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        owner = self.locked.get(key)
        if owner is not None and owner != descriptor and _is_open(owner):
            raise PermissionError(13, "Permission denied")
        self.locked[key] = descriptor


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # the folder is made before
    """Without what Windows lacks."""
    monkeypatch.setattr(platforms, "fcntl", None)
    monkeypatch.setattr(platforms, "msvcrt", Msvcrt())
    for name in ("getuid", "O_DIRECTORY", "sched_getaffinity", "sysconf", "pwrite", "pread"):
        monkeypatch.delattr(os, name)
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    monkeypatch.setattr(platforms, "_CPU", Path("nowhere"))


@pytest.mark.usefixtures("windows")
def test_a_lock_is_held_by_one_and_its_file_stays_readable(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert f"process {os.getpid()}" in (tmp_path / "lock").read_text("utf-8")
    with pytest.raises(RunError, match=f"is being written by process {os.getpid()}"):
        Lock(tmp_path / "lock")
    lock.release()
    Lock(tmp_path / "lock").release()


@pytest.mark.usefixtures("windows")
def test_files_are_replaced_and_the_machine_is_described(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", b"a\nb")
    assert (tmp_path / "file").read_bytes() == b"a\nb"
    assert platforms.is_own(tmp_path)
    assert platforms.cores() == os.cpu_count()
    assert platforms.memory() is None
    assert platforms.cpu()
    assert platforms.instructions()
    with (
        (tmp_path / "file").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
    ):
        platforms.release_pages(pages)


def test_a_folder_that_others_can_write_to_is_not_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    assert platforms.is_own(folder)
    folder.chmod(0o777)
    assert not platforms.is_own(folder)


def test_instructions_are_those_of_the_cpu_here() -> None:
    flags = platforms.instructions()
    assert platforms.cpu() in flags
    assert "flags: " in flags or "Features: " in flags


def test_the_package_imports_without_the_modules_of_unix() -> None:
    others = "import subprocess, jax, equinox, optax, msgspec, rich, cyclopts, safetensors, matplotlib"
    code = (
        f"{others}; import sys; sys.modules['fcntl'] = None; import fairyring as fr; "
        "fr.simulate; fr.load_run; fr.sweep; fr.write_report; import fairyring.cli; print('imported')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "imported", done.stderr


def test_the_faked_lock_notices_another(tmp_path: Path) -> None:
    """The fake itself: a test that cannot fail would show nothing."""
    fake = Msvcrt()
    with (tmp_path / "file").open("w") as one, (tmp_path / "file").open("r+") as other:
        fake.locking(one.fileno(), 2, 1)
        with pytest.raises(PermissionError):
            fake.locking(other.fileno(), 2, 1)
