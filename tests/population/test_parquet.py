"""Clients of Parquet files that stay on a disk or on S3: the same rows as in memory, few of them read, and every fault said."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.population.fake_s3 import FakeS3, fake_s3

import fairyring as fr
from fairyring.population import Population
from fairyring.population.parquet import storage

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parents[2]
SECRET, KEY = "a/secret+that/nobody/sees", "AKIDOFNOBODY"


def made(clients: int = 40, rows: int = 2000) -> Population:
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.normal(size=(rows, 3, 2)).astype(np.float32),
        "y": rng.integers(0, 5, rows),
        "flag": rng.random(rows) < 0.5,
    }
    return Population.from_arrays(columns, client=[f"user {i:03}" for i in rng.integers(0, clients, rows)])


PEOPLE = made()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """In several files, and each of them in several row groups; a client may have more than one."""
    folder = PEOPLE.to_parquet(
        tmp_path_factory.mktemp("data") / "people", "user", row_group_bytes=1500, file_bytes=20_000
    )
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    assert len(list(folder.iterdir())) > 3
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A home of its own, credentials, and no patience."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {"HOME": str(tmp_path / "home"), "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    for name, value in (settings | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storage, "PAUSES", (0.001, 0.002))
    return tmp_path / "home"


@pytest.fixture
def s3(folder) -> Iterator[FakeS3]:
    with fake_s3() as server:
        server.put(folder, "bucket/people")
        yield server


def remote(s3: FakeS3, path: str | Path = "s3://bucket/people", **options) -> Population:
    return Population.from_parquet(path, "user", storage=fr.S3Storage(endpoint=s3.endpoint), **options)


def same(one: Population, other: Population) -> None:
    assert (one.ids.tolist(), one.sizes.tolist()) == (other.ids.tolist(), other.sizes.tolist())
    (ours, owner), (theirs, owner_too) = one.rows(), other.rows()
    np.testing.assert_array_equal(owner, owner_too)
    assert ours.keys() == theirs.keys()
    for name, column in theirs.items():
        assert ours[name].dtype == column.dtype
        np.testing.assert_array_equal(ours[name], column)


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_it_is_the_population_that_was_written(folder, s3, where) -> None:
    people = (
        remote(s3)
        if where == "s3"
        else Population.from_parquet(folder, "user", in_memory=False, cache_bytes=4000)
    )
    assert (people.stored, people.reads_ahead, people.names) == (False, True, PEOPLE.names)
    same(people, PEOPLE)
    same(remote(s3, in_memory=True) if where == "s3" else Population.from_parquet(folder, "user"), PEOPLE)
    order = np.random.default_rng(1).permutation(len(PEOPLE))
    for chosen in (order, [3, 3, 0], [], slice(5, 9)):
        people.prefetch(chosen)
        ours, theirs = people.gather(chosen), PEOPLE.gather(chosen)
        np.testing.assert_array_equal(ours[1], theirs[1])
        for name in theirs[0]:
            np.testing.assert_array_equal(ours[0][name], theirs[0][name])
    view, stored = people.select(order[:9]), PEOPLE.select(order[:9])
    same(view, stored)
    for part, expected in zip(view.split_within(0.7, None), stored.split_within(0.7, None), strict=True):
        same(part, expected)
    first, second = view.split_within(0.7, seed=0)
    assert first.reads_ahead
    assert first.examples + second.examples == view.examples
    first.prefetch([0, 1])
    own = [set(map(tuple, part.client(2)["x"].reshape(-1, 6).tolist())) for part in (first, second, view)]
    assert own[0] | own[1] == own[2]
    assert people.select([4]).in_memory().fingerprint() == PEOPLE.select([4]).in_memory().fingerprint()
    more = Population.from_parquet(
        folder, "user", clients=[*reversed(PEOPLE.ids), "nobody"], in_memory=False, columns=["y"]
    )
    assert (more.ids[-1], more.sizes[-1], more.names) == ("nobody", 0, ("y",))
    np.testing.assert_array_equal(more.client(0)["y"], PEOPLE.client(39)["y"])


def test_only_what_is_needed_is_read(s3, tmp_path) -> None:
    large = made(100, 60_000)
    s3.put(
        large.to_parquet(tmp_path / "large", "user", row_group_bytes=1 << 15, file_bytes=1 << 19),
        "bucket/large",
    )
    s3.objects = {name: content for name, content in s3.objects.items() if "large" in name}
    total = sum(map(len, s3.objects.values()))
    people = remote(s3, "s3://bucket/large")
    counted = s3.sent()
    assert counted < 0.6 * total  # footers, the client column, and the rows of one row group
    again = remote(s3, "s3://bucket/large")
    assert s3.sent() - counted < 0.1 * total  # the index was kept
    before = s3.sent()
    again.client(20)
    again.client(20)
    assert 0 < s3.sent() - before < 0.1 * total
    same(people, again)
    assert all(header and KEY in header for header in s3.authorization)  # signed, by this process's own


def test_memory_does_not_grow_with_the_data(tmp_path) -> None:
    peaks = []
    for rows in (2000, 16_000):
        folder = made(40 * rows // 2000, rows).to_parquet(tmp_path / str(rows), row_group_bytes=1500)
        people = Population.from_parquet(folder, "client", in_memory=False, cache_bytes=9000)
        order = np.random.default_rng(0).permutation(len(people))
        people.prefetch(order)
        for clients in np.array_split(order, 10):
            people.gather(clients)
        peaks.append(people._reader.groups.peak)
        assert people.examples * people.row_bytes() > 7 * peaks[-1]
    assert 4500 < min(peaks) <= max(peaks) <= 9000


def table(**changes) -> "pa.Table":
    return pa.table({"user": [1, 1, 2, 2, 3], "x": [0.5, 1.5, 2.5, 3.5, 4.5]} | changes)


def read(folder: Path) -> Population:
    people = Population.from_parquet(folder, "user", in_memory=False)
    people.rows()
    return people


def test_runs_go_on_in_the_next_row_group_and_the_next_file(tmp_path) -> None:
    kinds = {
        "dictionary": lambda ids: pa.array([f"u{i}" for i in ids]).dictionary_encode(),
        "number": lambda ids: pa.array(ids, pa.int32()),
    }
    for kind, ids in kinds.items():
        folder = tmp_path / kind
        folder.mkdir()
        pq.write_table(table(user=ids([7, 7, 7, 2, 2])), folder / "1.parquet", row_group_size=2)
        pq.write_table(table(user=ids([2, 2, 2, 9, 4])), folder / "2.parquet", row_group_size=2)
        (folder / "_SUCCESS").touch()
        people = read(folder)
        assert people.sizes.tolist() == [5, 1, 3, 1]
        same(people, Population.from_parquet(folder, "user"))


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ([table(user=[1, None, 2, 2, 3])], r"1.parquet, row 1: given no client, here and in 0 of"),
        ([table(user=[1, 2, 1, 2, 3])], r"rows of client 1: given .* from row 0 of .*1.parquet, and from row 2"),
        ([table(), table(user=[4, 4, 5, 1, 1])], r"row 0 of .*1.parquet, and from row 3 of .*2.parquet.*to_parquet"),
        ([table(user=[0.5, 1, 2, 3, 4])], "values of type double; expected integers or strings"),
        ([table(), table(user=[4] * 5, x=[1, 2, 3, 4, 5])], r"2.parquet: given 'x' of type int64.*it is double"),
        ([table(), table(user=[4] * 5).rename_columns(["user", "z"])], r"2.parquet: given no column like 'x'"),
        ([table(), table(user=list("uvwxy"))], r"2.parquet: given 'user' of type string.*it is int64"),
        ([table(x=[1.0, 2, None, 4, 5])], r"1.parquet, row group 0, column 'x', row 2: given no value"),
        ([table(x=[[1.0], [2.0], [3.0], [4.0, 5.0], [6.0]])], "rows of 1 to 2 values"),
        ([table(x=[[1.0]] * 5), table(user=[4] * 5, x=[[1.0, 2.0]] * 5)], r"2.parquet.*given float64 \(5, 2\)"),
        ([table(x=[1.0, 2, float("nan"), 4, 5])], r"1.parquet.*column 'x', row 2: given nan"),
    ],
)  # fmt: skip
def test_files_that_make_no_population_are_refused_by_name(tmp_path, tables, says) -> None:
    for i, one in enumerate(tables, 1):
        pq.write_table(one, tmp_path / f"{i}.parquet")
    with pytest.raises(fr.PopulationError, match=says):
        read(tmp_path)


def test_torn_and_changed_files_are_named(tmp_path, home) -> None:
    paths = [tmp_path / "data" / f"{i}.parquet" for i in (1, 2)]
    paths[0].parent.mkdir()
    for path, first in zip(paths, (1, 4), strict=True):
        pq.write_table(table(user=[first] * 5), path)
        os.utime(path, (1e9, 1e9))
    people = Population.from_parquet(paths[0].parent, "user", in_memory=False)
    (kept,) = (home / ".cache" / "fairyring" / "indexes").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:300])  # an index that is damaged is made again
    assert read(paths[0].parent).sizes.tolist() == people.sizes.tolist()
    assert kept.read_bytes()[300:]
    pq.write_table(table(user=[5] * 5), paths[1])
    with pytest.raises(fr.DataUnavailable, match=r"2.parquet: given another content"):
        people.rows()
    assert read(paths[0].parent).ids.tolist() == [1, 5]
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(fr.DataUnavailable, match=r"2.parquet"):
        read(paths[0].parent)
    paths[1].unlink()
    with pytest.raises(fr.DataUnavailable, match=r"2.parquet: given nothing there"):
        people.rows()


def test_what_s3_refuses_is_said(s3, monkeypatch) -> None:
    with pytest.raises(fr.DataUnavailable, match="s3://none/people: given no such bucket"):
        remote(s3, Path("s3://none/people"))
    with pytest.raises(fr.DataUnavailable, match="s3://bucket/nobody: given nothing there"):
        remote(s3, "s3://bucket/nobody")
    s3.refused = True
    with pytest.raises(fr.DataUnavailable, match=r"access denied.*AWS_ACCESS_KEY_ID") as caught:
        remote(s3)
    assert SECRET not in repr(caught.getrepr(chain=True))
    for url in (
        f"s3://{KEY}:{SECRET}@bucket/people",
        f"s3://bucket/people?token={SECRET}",
        "gs://bucket/people",
    ):
        with pytest.raises(fr.PopulationError, match="path of Parquet files: given a URL") as caught:
            remote(s3, url)
        assert SECRET not in str(caught.value)
    with pytest.raises(fr.PopulationError, match="endpoint of S3") as caught:
        fr.S3Storage(endpoint=f"http://me:{SECRET}@host")
    assert SECRET not in str(caught.value)
    with pytest.raises(fr.PopulationError, match="storage: given S3Storage for /"):
        Population.from_parquet("/data", "user", storage=fr.S3Storage())


def test_a_network_that_fails_for_a_while_is_waited_for_and_one_that_stays_away_is_an_error(
    s3, folder
) -> None:
    people = remote(s3)
    s3.failures = [503, "cut"]
    same(people.select([0, 1]), PEOPLE.select([0, 1]))
    assert s3.failures == []
    s3.down = True
    with pytest.raises(fr.DataUnavailable, match="3 attempts that failed, the last with: AWS Error S"):
        people.client(39)
    s3.down = False
    same(people, PEOPLE)  # the failure was not kept
    name = sorted(s3.objects)[-1]
    written = PEOPLE.client(39)
    changed = made(41, 2000).select([39]).to_parquet(folder.parent / "other", "user") / "00000.parquet"
    s3.objects[name] = changed.read_bytes()
    fresh = pickle.loads(pickle.dumps(people))
    with pytest.raises(fr.DataUnavailable, match=rf"{name.split('/')[-1]}: given another content"):
        fresh.client(39)
    np.testing.assert_array_equal(people.client(39)["x"], written["x"])  # read before


def test_an_etag_is_enough_to_tell_a_file_from_another(s3) -> None:
    people = remote(s3)
    name = sorted(s3.objects)[0]
    content = bytearray(s3.objects[name])
    content[len(content) // 3] ^= 1
    s3.objects[name] = bytes(content)  # of the same size, and with the same date
    with pytest.raises(fr.DataUnavailable, match=r"00000.parquet: given another content"):
        pickle.loads(pickle.dumps(people)).client(0)
    with pytest.raises(fr.DataUnavailable, match=r"00000.parquet"):  # the index is not taken for good again
        remote(s3).rows()


def test_credentials_are_not_sent_nor_kept(s3, home) -> None:
    people = remote(s3)
    people.client(0)
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert kept
    for content in (
        pickle.dumps(people),
        kept,
        repr(people).encode(),
        repr(vars(people._reader.files)).encode(),
    ):
        assert SECRET.encode() not in content
        assert KEY.encode() not in content


def test_row_groups_that_are_too_large_are_warned_of(folder, monkeypatch) -> None:
    from fairyring.population.parquet import population

    monkeypatch.setattr(population, "_LARGE", 1000)
    with pytest.warns(fr.PerformanceWarning, match="all of one is read for a single client"):
        Population.from_parquet(folder, "user", in_memory=False, cache_bytes=4000)


def test_only_a_new_folder_is_written(tmp_path) -> None:
    with pytest.raises(fr.PopulationError, match="client column: given 'y', which is a data column"):
        PEOPLE.to_parquet(tmp_path / "new", "y")
    with pytest.raises(fr.PopulationError, match="an existing file or folder"):
        PEOPLE.to_parquet(tmp_path)
    assert list(tmp_path.iterdir()) == []


WAITING = """
import sys
from pathlib import Path
import fairyring as fr
from tests.population.fake_s3 import fake_s3

with fake_s3() as s3:
    s3.put(Path(sys.argv[1]), "bucket/people")
    people = fr.Population.from_parquet("s3://bucket/people", "user", storage=fr.S3Storage(endpoint=s3.endpoint))
    s3.down = True
    print("begun", flush=True)
    people.rows()
"""


def test_ctrl_c_is_answered_while_the_network_is_waited_for(folder) -> None:
    """Also by pyarrow, which otherwise waits for its last requests."""
    command = [sys.executable, "-c", WAITING, str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert time.monotonic() - began < 8  # the pauses between attempts alone are longer
