"""Blobs: what is put is what is handed out, or nothing is."""

import hashlib
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import FairyringError, MissingExtra, PlanError, RunDamaged, StorageError
from fairyring.service.blobs import BlobMissing, Blobs
from tests.population.fake_s3 import FakeS3, fake_s3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with fake_s3() as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        return Blobs(tmp_path / "blobs")
    request.getfixturevalue("s3")
    return Blobs("s3://bucket/some/prefix")


def spoil(blobs: Blobs, digest: bytes, data: bytes, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Replace a blob behind the store's back."""
    name = f"{digest.hex()[:2]}/{digest.hex()}"
    if "s3" in request.fixturenames or request.node.callspec.params.get("blobs") == "s3":
        s3 = request.getfixturevalue("s3")
        assert f"bucket/some/prefix/{name}" in s3.objects
        s3.objects[f"bucket/some/prefix/{name}"] = data
    else:
        assert (tmp_path / "blobs" / name).exists()
        (tmp_path / "blobs" / name).write_bytes(data)


def test_what_was_put_is_handed_out_whole_and_in_parts(blobs: Blobs) -> None:
    for data in (b"", b"x", os.urandom(3_000_000)):
        digest = blobs.put(data)
        assert digest == hashlib.sha256(data).digest() == blobs.put(data)
        assert blobs.get(digest) == data
        assert (blobs.size(digest), blobs.exists(digest)) == (len(data), True)
        middle = len(data) // 3
        assert blobs.read(digest, 0, middle) + blobs.read(digest, middle, 10**9) == data
        assert blobs.read(digest, len(data), len(data)) == b""
        for start, stop in ((-1, 1), (2, 1), (len(data) + 1, len(data) + 2)):
            with pytest.raises(PlanError, match="part of blob"):
                blobs.read(digest, start, stop)
        path = blobs.path(digest)
        assert path is None or path.read_bytes() == data


def test_what_is_not_there_is_said(blobs: Blobs) -> None:
    digest = hashlib.sha256(b"none").digest()
    assert not blobs.exists(digest)
    for use in (blobs.get, blobs.size, lambda d: blobs.read(d, 0, 1)):
        with pytest.raises(BlobMissing):
            use(digest)
    blobs.delete(digest)
    digest = blobs.put(b"soon gone")
    blobs.delete(digest)
    assert not blobs.exists(digest)
    with pytest.raises(BlobMissing):
        blobs.get(digest)


@pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "empty", "another"])
@pytest.mark.parametrize("known", [False, True])
def test_a_damaged_blob_is_never_handed_out_and_heals_when_it_is_put(
    blobs: Blobs, damage: str, known: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = os.urandom(2000)
    digest = blobs.put(data)
    if known:
        assert blobs.read(digest, 0, 10) == data[:10]
    damaged = {
        "flipped": data[:999] + bytes([data[999] ^ 1]) + data[1000:],
        "shorter": data[:-1],
        "longer": data + b"\0",
        "empty": b"",
        "another": os.urandom(2000),
    }[damage]
    spoil(blobs, digest, damaged, tmp_path, request)
    for use in (blobs.get, lambda d: blobs.read(d, 0, 10)):
        with pytest.raises(RunDamaged, match="other bytes"):
            use(digest)
    if isinstance(blobs._store, type(Blobs(tmp_path)._store)):
        with pytest.raises(RunDamaged):
            blobs.path(digest)
    assert blobs.put(data) == digest
    assert blobs.get(digest) == data == blobs.read(digest, 0, 10**9)


@pytest.mark.parametrize(
    "wrong", ["../../etc/passwd", b"../../../../../../../etc/passwd", bytes(31), bytes(33), "a" * 64, None]
)
def test_only_a_digest_names_a_blob(tmp_path: Path, wrong: bytes) -> None:
    blobs = Blobs(tmp_path / "blobs")
    for use in (blobs.get, blobs.size, blobs.exists, blobs.path, blobs.delete, lambda d: blobs.read(d, 0, 1)):
        with pytest.raises((PlanError, TypeError)):
            use(wrong)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 60)), max_size=8))
def test_a_folder_is_a_dictionary_of_digests(tmp_path_factory: pytest.TempPathFactory, puts: list) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    one, other, model = Blobs(folder), Blobs(folder), {}
    for data, start, stop in puts:
        model[one.put(data)] = data
        for digest, known in model.items():
            assert other.get(digest) == known
            if start <= min(stop, len(known)):
                assert other.read(digest, start, stop) == known[start:stop]
    assert {bytes.fromhex(path.name) for path in folder.rglob("*") if path.is_file()} == set(model)


def test_many_threads_may_put_the_same(tmp_path: Path) -> None:
    blobs, data, failures = Blobs(tmp_path / "blobs"), os.urandom(100_000), []
    start = threading.Barrier(8)

    def put() -> None:
        start.wait()
        try:
            assert blobs.get(blobs.put(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    [file] = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_put_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path / "blobs")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        blobs.put(b"data")
    monkeypatch.undo()
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
    assert blobs.get(blobs.put(b"data")) == b"data"


def test_a_bucket_that_refuses_is_an_error_without_credentials(s3: FakeS3) -> None:
    s3.refused = True
    blobs = Blobs("s3://bucket/some")
    for use in (lambda: blobs.put(b"data"), lambda: blobs.get(bytes(32)), lambda: blobs.exists(bytes(32))):
        with pytest.raises(StorageError) as caught:
            use()
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://user:hunter2@bucket/x",
        "s3://bucket/x?secret=hunter2",
        "s3://bucket/../x",
        "ftp://host/x",
    ],
)
def test_a_place_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(PlanError) as caught:
        Blobs(url)
    assert "hunter2" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FairyringError):
        Blobs(tmp_path / "file" / "blobs")


def test_without_obstore_a_folder_works_and_a_bucket_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    blobs = Blobs(tmp_path)
    assert blobs.get(blobs.put(b"data")) == b"data"
    with pytest.raises(MissingExtra, match=r"fairyring\[service\]"):
        Blobs("s3://bucket")
