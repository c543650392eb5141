"""Compiled programs in the user's cache folder: complete or not there, bounded, and nobody else's."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fairyring.core.program_cache import ABANDONED, FOLDER, ProgramCache

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX modes")

# Compiles a program that another process may have compiled, and prints how often it had to, and its result.
COMPILES = """
import jax.numpy as jnp, numpy as np
from fairyring.core.cores import core_processors
from fairyring.core.program import Program
program = Program(lambda x: jnp.sort(jnp.sin(x) * 0.5), core_processors(2))
results = [program(place, np.arange(9, dtype=np.float32)) for place in range(2)]
assert all((r == results[0]).all() for r in results)
print(program.compilations, np.asarray(results[0]).tobytes().hex())
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    ours = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    given = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.Popen(
        [sys.executable, "-c", COMPILES],
        env=given | {FOLDER: str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


def outcome(process: "subprocess.Popen[str]") -> tuple[int, str]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    compilations, result = out.split()
    return int(compilations), result


def test_a_second_process_compiles_nothing_and_computes_the_same_bits(tmp_path):
    folder = tmp_path / "programs"
    first = outcome(start(folder))
    assert first[0] == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    second = outcome(start(folder))
    assert second == (0, first[1])
    (kept,) = folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:-5])  # a disk that was full
    assert outcome(start(folder)) == first
    assert outcome(start(folder)) == second


def test_two_processes_at_once(tmp_path):
    processes = [start(tmp_path / "programs") for _ in range(2)]
    first, second = map(outcome, processes)
    assert first[1] == second[1]
    assert outcome(start(tmp_path / "programs")) == (0, first[1])


def test_readers_never_see_half_a_program(tmp_path):
    cache = ProgramCache(tmp_path)
    contents = [bytes([n]) * 200_000 for n in range(4)]
    done = threading.Event()
    seen: set[bytes] = set()

    def read():
        while not done.is_set():
            program = cache.read("key")
            seen.add(program[:1] if program in contents else b"" if program is None else b"half")

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda c=c: [cache.write("key", c) for _ in range(20)]) for c in contents
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert b"half" not in seen
    assert cache.read("key") in contents
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = ProgramCache(tmp_path, limit=3_500)
    a, b, c, d = (letter * 64 for letter in "abcd")
    (tmp_path / "thesis").write_bytes(bytes(5_000))
    os.utime(tmp_path / "thesis", (0, 0))
    for n, key in enumerate((a, b, c)):
        cache.write(key, bytes(1_000))
        os.utime(tmp_path / key, (n, n))
    assert cache.read(a) == bytes(1_000)  # used just now
    cache.write(d, bytes(1_000))
    assert cache.read(b) is None
    assert all(cache.read(key) is not None for key in (a, c, d))
    assert cache.size().programs == 3
    assert cache.size().bytes <= 3_500
    cache.clear()
    assert cache.size() == (0, 0)
    assert (tmp_path / "thesis").exists()


def test_what_a_killed_process_left_is_deleted(tmp_path):
    cache = ProgramCache(tmp_path)
    old, new = (f"{'a' * 64}.{digit * 32}.part" for digit in "01")
    for name, age in ((old, ABANDONED + 60), (new, 0), ("download.part", ABANDONED + 60)):
        (tmp_path / name).write_bytes(b"half")
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    cache.write("key", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {new, "download.part", "key"}


def test_a_changed_program_is_not_loaded(tmp_path):
    cache = ProgramCache(tmp_path)
    cache.write("key", b"machine code")
    path = tmp_path / "key"
    path.write_bytes(path.read_bytes().replace(b"code", b"kode"))
    assert cache.read("key") is None
    assert not path.exists()


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    monkeypatch.setenv(FOLDER, str(folder))
    assert ProgramCache.of_user() is not None
    for mode in (0o770, 0o707):
        folder.chmod(mode)
        assert ProgramCache.of_user() is None
    folder.chmod(0o755)
    assert ProgramCache.of_user() is not None
    monkeypatch.setattr(os, "getuid", lambda: os.stat(folder).st_uid + 1)
    assert ProgramCache.of_user() is None


def test_none_is_no_cache_and_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, "none")
    assert ProgramCache.of_user() is None
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file" / "programs"))
    assert ProgramCache.of_user() is None
    monkeypatch.delenv(FOLDER)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    cache = ProgramCache.of_user()
    assert cache is not None
    assert cache.folder == tmp_path / ".cache" / "fairyring" / "programs"


def test_a_full_disk_is_no_error(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    ProgramCache(tmp_path).write("key", b"program")
    assert list(tmp_path.iterdir()) == []
