"""A population as a folder: unchanged after opening, fast at any size, never incomplete."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest

from fairyring.core.errors import PopulationError, StorageError
from fairyring.population import Population, _store


@pytest.fixture
def population():
    rng = np.random.default_rng(0)
    owner = rng.integers(0, 20, 300)
    columns = {"x": rng.standard_normal((300, 2, 3)).astype(np.float32), "a/b": rng.integers(0, 9, 300)}
    names = [f"client {i}" for i in range(21)]
    return Population.from_arrays(
        columns, client=np.array(names)[owner], clients=names, attributes={"age": np.arange(21)}
    )


def test_opened_is_what_was_saved(population, tmp_path):
    opened = Population.open(population.save(tmp_path / "new" / "p"))
    assert isinstance(opened.columns["x"], np.memmap)
    assert opened.fingerprint() == population.fingerprint()
    np.testing.assert_array_equal(opened.ids, population.ids)
    np.testing.assert_array_equal(opened.attributes["age"], population.attributes["age"])
    for i in range(len(population)):
        for name, rows in population.client(i).items():
            np.testing.assert_array_equal(opened.client(i)[name], rows)
            assert opened.dtype(name) == rows.dtype


def test_a_selection_saves_only_its_rows(population, tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_BLOCK", 400)  # several blocks, some smaller than a client
    view = population.select([7, 20, 3])
    opened = Population.open(view.save(tmp_path / "p"))
    assert len(opened.columns["x"]) == view.examples
    assert opened.fingerprint() == view.fingerprint()


def test_a_mapped_population_gathers_and_splits(population, tmp_path):
    opened = Population.open(population.save(tmp_path / "p"))
    columns, _ = opened.gather([5, 2])
    assert type(columns["x"]) is np.ndarray
    np.testing.assert_array_equal(columns["x"], population.gather([5, 2])[0]["x"])
    first, second = opened.split_within(0.5, seed=1)
    assert first.examples + second.examples == population.examples


def test_saving_over_something_is_refused(population, tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(PopulationError, match="an existing file or folder"):
        population.save(tmp_path / "p")


def test_values_are_checked_when_saved(tmp_path):
    bad = Population({"x": np.array([1.0, np.nan])}, [0], [2])
    with pytest.raises(PopulationError, match="column 'x', row 1"):
        bad.save(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(population, tmp_path, monkeypatch):
    def full(file, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_store, "_append", full)
    with pytest.raises(StorageError, match="No space left on device"):
        population.save(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
import numpy as np
from fairyring.population import Population, _store
append, left = _store._append, int(sys.argv[2])
def append_or_die(file, array):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    append(file, array)
_store._append = append_or_die
Population.from_arrays({"x": np.arange(9.0), "y": np.arange(9)}, client=np.arange(9)).save(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
@pytest.mark.parametrize("appended", [0, 4, 5])
def test_killed_while_saving_it_is_there_whole_or_not_at_all(tmp_path, appended):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "p", str(appended)], check=False)
    assert (done.returncode == 0) == (appended == 5)
    assert (tmp_path / "p").exists() == (appended == 5)
    if appended == 5:
        assert Population.open(tmp_path / "p").examples == 9


def _no_manifest(folder):
    (folder / "population.json").unlink()


def _cut_column(folder):
    path = folder / "columns" / "000.npy"
    path.write_bytes(path.read_bytes()[:-8])


def _cut_manifest(folder):
    path = folder / "population.json"
    path.write_bytes(path.read_bytes()[:20])


def _missing_column(folder):
    (folder / "columns" / "001.npy").unlink()


def _other_sizes(folder):
    np.save(folder / "sizes.npy", np.full(21, 100))


def _objects(folder):
    np.save(folder / "ids.npy", np.array([object()] * 21, dtype=object), allow_pickle=True)


def _newer(folder):
    path = folder / "population.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))


def _fewer_rows(folder):
    np.save(folder / "columns" / "000.npy", np.zeros((3, 2, 3), np.float32))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_no_manifest, "no population.json"),
        (_cut_column, "000.npy"),
        (_cut_manifest, "population.json"),
        (_missing_column, "001.npy"),
        (_other_sizes, "rows from row"),
        (_objects, "ids.npy"),
        (_newer, "version 99"),
        (_fewer_rows, "instead of 300 rows"),
    ],
)
def test_a_damaged_folder_is_refused(population, tmp_path, damage, says):
    folder = population.save(tmp_path / "p")
    damage(folder)
    with pytest.raises(PopulationError, match=says) as refused:
        Population.open(folder)
    assert refused.value.do


OPEN = """
import resource, sys, time
import numpy as np
from fairyring.population import Population
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def timed(f):
    began = time.perf_counter()
    result = f()
    return result, time.perf_counter() - began
before = resident()
population, opening = timed(lambda: Population.open(sys.argv[1]))
opened = resident() - before
rng = np.random.default_rng(0)
for _ in range(10):
    cohort = rng.choice(len(population), 1000, replace=False)
    (columns, offsets), gathering = timed(lambda: population.gather(cohort))
assert columns["x"].shape == (50_000, 8) and population.examples == 50_000_000
used = resident() - before
_, hashing = timed(population.fingerprint)
print(opening, opened, gathering, hashing, used)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc for the resident memory")
def test_a_million_clients_open_in_under_a_second(tmp_path):
    """1,000,000 clients x 50 examples: 450 MB of columns, none of which is read on opening."""
    clients, examples = 1_000_000, 50_000_000
    template = Population.from_arrays(
        {"x": np.zeros((1, 8), np.uint8), "y": np.zeros(1, np.uint8)}, client=[0]
    )
    folder = template.save(tmp_path / "million")
    for i, shape in enumerate(
        [(examples, 8), (examples,)]
    ):  # sparse files: their zeros take no space on disk
        np.lib.format.open_memmap(folder / "columns" / f"{i:03}.npy", mode="w+", dtype=np.uint8, shape=shape)
    np.save(folder / "starts.npy", np.arange(clients) * 50)
    np.save(folder / "sizes.npy", np.full(clients, 50))
    np.save(folder / "ids.npy", np.arange(clients))
    manifest = json.loads((folder / "population.json").read_text())
    (folder / "population.json").write_text(json.dumps(manifest | {"clients": clients, "examples": examples}))

    done = subprocess.run([sys.executable, "-c", OPEN, folder], capture_output=True, text=True, check=True)
    opening, opened, gathering, hashing, used = map(float, done.stdout.split())
    print(
        f"open {opening:.3f} s, {opened / 2**20:.0f} MiB; 1000 clients in {gathering * 1e3:.1f} ms; "
        f"fingerprint {hashing:.3f} s; after ten cohorts {used / 2**20:.0f} MiB"
    )
    assert opening < 1.0
    assert opened < 64 * 2**20
    assert gathering < 1.0
    assert hashing < 1.0
    assert used < 96 * 2**20, "what was gathered does not stay resident"
