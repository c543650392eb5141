"""Examples come back in the order in which they were added, are kept no longer than they may, and are gone when they are forgotten."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.device import DeviceFolder, DeviceLedger, ExampleStore, from_file
from fairyring.messages import Array

X, Y = Array("x", (3,), "<f4"), Array("y", (), "<i4")
PLANTED = b"planted row, 24 bytes.."[:24].ljust(24, b"!")


def rows(begin: int, count: int) -> dict[str, np.ndarray]:
    numbers = np.arange(begin, begin + count)
    return {
        "x": (numbers[:, None] + np.array([0.0, 0.25, 0.5])).astype(np.float32),
        "y": numbers.astype(np.int32),
    }


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    with ExampleStore(tmp_path / "examples.sqlite", clock=clock) as made:
        yield made


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=8),
    st.integers(0, 30),
)
@settings(deadline=None, max_examples=30)
def test_rows_come_back_to_the_bit_in_the_order_in_which_they_were_added(pieces, most):
    at, added = 0, []
    with (
        tempfile.TemporaryDirectory() as folder,
        ExampleStore(Path(folder) / "examples.sqlite", clock=Clock()) as store,
    ):
        for source, count in pieces:
            assert store.add(source, rows(at, count), consent="training") == count
            added += range(at, at + count)
            at += count
        if not pieces:
            assert store.load((X, Y), most)["x"].shape == (0, 3)
            return
        loaded = store.load((X, Y), most)
        again = store.load((X, Y), most)
    kept = added[max(0, len(added) - most) :]
    assert loaded["y"].tolist() == kept
    assert loaded["y"].dtype == np.int32
    expected = (
        np.stack([rows(number, 1)["x"][0] for number in kept]) if kept else np.zeros((0, 3), np.float32)
    )
    np.testing.assert_array_equal(loaded["x"], expected)
    assert loaded["x"].tobytes() == again["x"].tobytes()


def test_only_sources_whose_people_allow_it_are_trained_on(store):
    store.add("keyboard", rows(0, 3), consent="training")
    store.add("camera", rows(10, 3), consent="withheld")
    assert store.load((X, Y), 10)["y"].tolist() == [0, 1, 2]
    store.allow("camera", "training")
    assert store.load((X, Y), 10)["y"].tolist() == [0, 1, 2, 10, 11, 12]
    store.allow("keyboard", "withheld")
    assert store.load((X, Y), 10)["y"].tolist() == [10, 11, 12]
    # What was withdrawn is not given back by an app that goes on adding.
    with pytest.raises(fr.PopulationError, match="with consent 'training'; expected 'withheld'"):
        store.add("keyboard", rows(3, 1), consent="training")
    with pytest.raises(fr.PopulationError, match="consent: given 'yes'"):
        store.allow("keyboard", "yes")
    with pytest.raises(fr.PopulationError, match="source 'nobody'"):
        store.allow("nobody", "training")


def test_examples_are_kept_as_long_and_as_many_as_was_said(store, clock, tmp_path):
    for day in range(5):
        store.add("a", rows(day, 1), consent="training", now=1000.0 + day)
    store.add("b", rows(50, 1), consent="training", now=1000.0)
    clock.now = 1004.0
    store.keep("a", count=4)
    assert store.load((X, Y), 10)["y"].tolist() == [1, 2, 3, 4, 50]
    store.keep("a", seconds=2.0)
    assert store.load((X, Y), 10)["y"].tolist() == [2, 3, 4, 50]
    a, b = store.sources()
    assert a[:2] + a[3:] == ("a", "training", 3, 1002.0, 1004.0, 1004.0, None)
    assert b[:2] + b[3:] == ("b", "training", 1, 1000.0, 1000.0, None, None)
    assert a.columns == (X, Y)
    clock.now = 1006.5
    with ExampleStore(tmp_path / "examples.sqlite", clock=clock):  # opening is enough
        pass
    assert store._database.rows("SELECT count(*) FROM examples")[0][0] == 1
    store.add("a", rows(9, 2), consent="training")
    assert store.load((X, Y), 10)["y"].tolist() == [50, 9, 10]
    store.keep("b", count=0)
    assert store.load((X, Y), 10)["y"].tolist() == [9, 10]
    with pytest.raises(fr.PopulationError, match="-1 seconds"):
        store.keep("a", seconds=-1)


def test_sources_with_other_columns_beside_those_of_the_plan_are_read_together(store):
    for number in range(6):
        more = {"age": np.full(1, number, np.int8), "z": np.zeros((1, 2))} if number % 2 else {}
        store.add("ab"[number % 2], rows(number, 1) | more, consent="training")
    found = store.load((Y, X), 5)
    assert found["y"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(found["x"], rows(1, 5)["x"])
    np.testing.assert_array_equal(found["x"].dtype, np.float32)


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_what_is_forgotten_is_in_no_file(tmp_path, clock):
    planted = {"x": np.frombuffer(PLANTED, np.uint8)[None]}
    store = ExampleStore(tmp_path / "examples.sqlite", clock=clock)
    for number in range(200):  # several pages
        store.add("a", {"x": np.full((1, 24), number, np.uint8)}, consent="training")
        if number % 50 == 7:
            store.add("a", planted, consent="training")
    store.add("b", planted, consent="withheld")
    assert bytes_of(tmp_path).count(PLANTED) >= 5
    assert store.forget("a") == 204
    assert [source.name for source in store.sources()] == ["b"]
    assert bytes_of(tmp_path).count(PLANTED) == 1
    assert store.forget() == 1
    assert PLANTED not in bytes_of(tmp_path)
    store.add("big", {"x": np.zeros((2000, 500), np.uint8)}, consent="training")
    assert len(bytes_of(tmp_path)) > 1e6
    store.forget("big")
    assert (tmp_path / "examples.sqlite").stat().st_size < 1e5  # the disk has its room back
    # So it is with what has become too old, or too much.
    for bound in ({"seconds": 5.0}, {"count": 3}):
        store.add("c", planted, consent="training")
        store.keep("c", **bound)
        assert PLANTED in bytes_of(tmp_path)
        clock.now += 6
        store.add("c", {"x": np.zeros((3, 24), np.uint8)}, consent="training")
        assert PLANTED not in bytes_of(tmp_path)
        store.forget()
    store.close()


def test_a_reader_that_holds_the_file_is_said_and_a_second_call_ends_it(tmp_path, clock):
    store = ExampleStore(tmp_path / "examples.sqlite", clock=clock)
    store._database._connection.execute("PRAGMA busy_timeout=100")
    store.add("a", {"x": np.frombuffer(PLANTED, np.uint8)[None]}, consent="training")
    with ExampleStore(tmp_path / "examples.sqlite", clock=clock) as other:
        other._database.execute("BEGIN")
        other._database.rows("SELECT * FROM examples")
        with pytest.raises(fr.StorageError):
            store.forget("a")
        other._database.execute("COMMIT")
    assert store.load((), 10) == {}
    store.forget("a")
    assert PLANTED not in bytes_of(tmp_path)
    store.close()


def test_columns_that_do_not_fit_are_named(store):
    store.add("a", rows(0, 2), consent="training")
    for columns, text in (
        ((X, Array("y", (), "<i8")), r"column 'y' of source 'a': given int32 \[\]; expected int64 \[\]"),
        (
            (Array("x", (4,), "<f4"), Y),
            r"column 'x' of source 'a': given float32 \[3\]; expected float32 \[4\]",
        ),
        ((X, Y, Array("z", (), "<f4")), "column 'z': given no source"),
    ):
        with pytest.raises(fr.PopulationError, match=text):
            store.load(columns, 5)
    for given_columns, text in (
        ({"x": np.zeros((2, 3), np.float32), "y": np.zeros(3, np.int32)}, "arrays of one length"),
        ({"x": np.zeros((), np.float32)}, "arrays of one length"),
        ({}, "given none"),
        ({"x": np.array(["a"])}, "column 'x': given <U1"),
        ({"x": np.zeros((1, 3), np.float32)}, "column 'y' of source 'a': given no such column"),
        ({**rows(0, 1), "x": np.zeros((1, 3))}, "column 'x' of source 'a': given float64"),
    ):
        with pytest.raises(fr.PopulationError, match=text):
            store.add("a", given_columns, consent="training")
    assert store.load((X, Y), 5)["y"].tolist() == [0, 1]
    # A source without a column of the plan is none of its sources.
    store.add("b", {"other": np.zeros((5, 2))}, consent="training")
    assert store.load((X, Y), 5)["y"].tolist() == [0, 1]
    assert store.load((Y,), 5)["y"].tolist() == [0, 1]


def test_every_kind_of_number_comes_back(store):
    kinds = ["<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "|b1"]
    given_columns = {kind: np.array([[0, 1], [1, 0]]).astype(kind) for kind in kinds}
    store.add("a", given_columns | {"big": np.array([1.5, 2.5], ">f8")}, consent="training")
    columns = tuple(Array(kind, (2,), kind) for kind in kinds)
    found = store.load((*columns, Array("big", (), "<f8")), 2)
    for kind in kinds:
        np.testing.assert_array_equal(found[kind], given_columns[kind])
        assert found[kind].dtype == np.dtype(kind)
    assert found["big"].tolist() == [1.5, 2.5]


def test_examples_are_read_from_files(tmp_path):
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2) / 4, np.array([3, 1, 2], np.int32)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    (tmp_path / "a.csv").write_text(
        "x[0],x[1],y\n" + "".join(f"{a},{b},{c}\n" for (a, b), c in zip(x, y, strict=True))
    )
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra 'data'")
    from pyarrow import parquet

    nested = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), 2)
    parquet.write_table(pyarrow.table({"x": nested, "y": pyarrow.array(y)}), tmp_path / "a.parquet")
    for end in ("npz", "csv", "parquet"):
        found = from_file(tmp_path / f"a.{end}")
        assert list(found) == ["x", "y"]
        np.testing.assert_array_equal(found["x"], x)
        np.testing.assert_array_equal(found["y"], y)
        assert (found["x"].dtype, found["y"].dtype) == (np.float32, np.int32)
    (tmp_path / "m.csv").write_text("m[0][0],m[1][0],m[0][1],m[1][1],big\n1,3,2,4,5000000000\n")
    found = from_file(tmp_path / "m.csv")
    assert found["m"].tolist() == [[[1, 2], [3, 4]]]
    assert found["big"].dtype == np.int64


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", "x,y\n1,two\n", "column 'y' of .*: given 'two' in row 2"),
        ("a.csv", "x,y\n1,2\n3\n", "row 3: given 1 values"),
        ("a.csv", "x[0],x[2]\n1,2\n", r"column 'x' of .*: given 2 of its places"),
        ("a.csv", "x,y\n1,\xff\n".encode("latin-1"), "expected a file of its kind"),
        ("a.npz", "nothing", "expected a file of its kind"),
        ("a.parquet", "nothing", "expected a file of its kind"),
        ("a.txt", "x", "ends with '.txt'"),
    ],
)
def test_files_with_something_else_are_refused(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(fr.PopulationError, match=text):
        from_file(tmp_path / name)
    with pytest.raises(fr.PopulationError, match="no such file"):
        from_file(tmp_path / "none.csv")


def test_a_devices_folder_keeps_its_keys_and_forgets_them(tmp_path):
    path = tmp_path / "device"
    with DeviceFolder(path) as folder:
        identity, secret = folder.identity, folder.secret
        assert (folder.identity.public, folder.secret) == (identity.public, secret)
        assert len({secret, identity.private_bytes()}) == 2
        assert {file.stat().st_mode & 0o777 for file in path.glob("*.key")} == {0o600}
        assert path.stat().st_mode & 0o777 == 0o700
        with pytest.raises(fr.RunError, match="one process a folder: two agents"):
            DeviceFolder(path)
        with DeviceFolder(path, locked=False) as looked_at:
            assert looked_at.identity.public == identity.public
        with ExampleStore(folder.examples) as store:
            store.add("a", {"x": np.frombuffer(PLANTED, np.uint8)[None]}, consent="training")
        with DeviceLedger(folder.ledger) as ledger:
            ledger.refused("plan", "because")
        (folder.blobs / "blob").write_bytes(b"model")
    with DeviceFolder(path) as folder:
        assert (folder.identity.public, folder.secret) == (identity.public, secret)
        folder.forget()
        assert sorted(one.name for one in path.iterdir()) == ["blobs", "ledger.sqlite", "lock", "sessions"]
        assert list(folder.blobs.iterdir()) == []
        assert folder.identity.public != identity.public
        assert folder.secret != secret
        with DeviceLedger(folder.ledger) as ledger:
            assert len(ledger.refusals()) == 1
        folder.forget(ledger=True)
        assert not folder.ledger.exists()
        assert secret.hex() not in repr(folder)
        (path / "secret.key").write_bytes(b"short")
        with pytest.raises(fr.RunDamaged, match="5 bytes"):
            _ = folder.secret
    path.chmod(0o777)
    with pytest.raises(fr.StorageError, match="others can write"):
        DeviceFolder(path)


ADDING = """
import sys
import numpy as np
from fairyring.device import ExampleStore
store = ExampleStore(sys.argv[1])
for number in range(1000):
    store.add("a", {"x": np.full((300, 16), number, np.int32)}, consent="training")
    print(number, flush=True)
"""


def test_rows_are_added_all_or_none_whenever_the_process_is_killed(tmp_path):
    path = tmp_path / "examples.sqlite"
    process = subprocess.Popen([sys.executable, "-c", ADDING, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(5)]
    process.kill()
    said += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    with ExampleStore(path) as store:
        found = store.load((Array("x", (16,), "<i4"),), 10**6)["x"]
    assert len(found) // 300 in (len(said), len(said) + 1)
    np.testing.assert_array_equal(
        found, np.repeat(np.arange(len(found) // 300), 300)[:, None] + np.zeros(16, int)
    )


KEYS = """
import sys
from fairyring.device import DeviceFolder
for number in range(1000):
    with DeviceFolder(sys.argv[1] + f"/{number}") as folder:
        print(number, folder.secret.hex(), folder.identity.public.hex(), flush=True)
"""


def test_keys_that_were_given_before_a_kill_are_there_after_it(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KEYS, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(5)]
    process.kill()
    said += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    for line in said:
        number, secret, public = line.split()
        with DeviceFolder(tmp_path / number) as folder:
            assert (folder.secret.hex(), folder.identity.public.hex()) == (secret, public)
    with DeviceFolder(tmp_path / str(len(said))) as folder:  # the one it was within
        assert len(folder.secret) == 32
