"""Files of published data sets: found, checked, and fetched completely or not at all."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fairyring.core.errors import DataUnavailable, PopulationError
from fairyring.population import Dataset, File, Population, Splits, describe, fetch, find, load, names
from fairyring.population.readers import _files, catalogue

PUBLISHED = {"/one.txt": b"one", "/two.gz": gzip.compress(b"two" * 1000)}
SUMS = [hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two" * 1000).hexdigest()]


class Handler(BaseHTTPRequestHandler):
    cut = 0
    asked: list[str]

    def do_GET(self):
        type(self).asked.append(self.path)
        if self.path not in PUBLISHED:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(PUBLISHED[self.path])))
        self.end_headers()
        self.wfile.write(PUBLISHED[self.path][: len(PUBLISHED[self.path]) - self.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    handler = type("Fresh", (Handler,), {"asked": [], "cut": 0})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRYRING_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(_files, "cache", lambda: tmp_path / "cache")
    return tmp_path


def read_lengths(paths, *, repeat=1):
    """A reader: one client per file, with as many examples as the file has bytes."""
    sizes = [
        len(gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes()) for p in paths
    ] * repeat
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return Splits(Population.from_arrays({"x": np.ones(len(owner))}, client=owner), None)


def dataset(url="http://127.0.0.1:9"):
    files = (File("one.txt", SUMS[0], f"{url}/one.txt"), File("two.gz", SUMS[1], f"{url}/two.gz"))
    return Dataset(
        "set", "A set", "Somebody", "free", "-", "-", {}, "How.", read_lengths, files, folder="set"
    )


def test_fetched_files_are_found(places, server):
    handler, url = server
    paths = _files.fetch(dataset(url))
    assert [path.read_bytes() for path in paths] == [PUBLISHED["/one.txt"], PUBLISHED["/two.gz"]]
    assert _files.find(dataset(url)) == paths
    assert _files.fetch(dataset(url)) == paths
    assert handler.asked == ["/one.txt", "/two.gz"], "what is there is not asked for again"


@pytest.mark.parametrize("fault", ["cut short", "changed", "gone"])
def test_a_bad_reply_leaves_nothing_behind(places, server, fault, monkeypatch):
    handler, url = server
    match fault:
        case "cut short":
            handler.cut = 1
        case "changed":
            monkeypatch.setitem(PUBLISHED, "/one.txt", b"eno")
        case "gone":
            monkeypatch.delitem(PUBLISHED, "/one.txt")
    with pytest.raises(DataUnavailable, match=r"one\.txt") as refused:
        _files.fetch(dataset(url))
    assert refused.value.do
    assert [p for p in places.rglob("*") if p.is_file()] == []


def test_without_a_network_it_says_where_to_put_the_file(places):
    with pytest.raises(DataUnavailable, match=r"put it at .*cache/set/one\.txt"):
        _files.fetch(dataset())


def test_a_set_that_is_not_there_says_what_to_do(places):
    with pytest.raises(DataUnavailable) as refused:
        _files.find(dataset())
    for part in ("data/set", "cache/set", "one.txt", "two.gz", "http://127.0.0.1:9/two.gz"):
        assert part in str(refused.value)


def test_a_damaged_file_is_named_and_a_good_copy_elsewhere_used(places):
    for folder, content in (("data", b"bad"), ("cache", b"one")):
        (places / folder / "set").mkdir(parents=True)
        (places / folder / "set" / "one.txt").write_bytes(content)
        (places / folder / "set" / "two.gz").write_bytes(gzip.compress(b"two" * 1000, 1))
    assert _files.find(dataset())[0].parent == places / "cache" / "set"
    (places / "cache" / "set" / "one.txt").unlink()
    with pytest.raises(DataUnavailable, match=r"data/set/one\.txt: given sha256 "):
        _files.find(dataset())


def test_an_archive_that_cannot_be_unpacked_is_damaged(places):
    (places / "data" / "set").mkdir(parents=True)
    (places / "data" / "set" / "one.txt").write_bytes(b"one")
    (places / "data" / "set" / "two.gz").write_bytes(PUBLISHED["/two.gz"][:-6])
    with pytest.raises(DataUnavailable, match="no readable archive"):
        _files.find(dataset())


def test_a_changed_file_is_checked_again(places):
    (places / "data" / "set").mkdir(parents=True)
    for name in ("one.txt", "two.gz"):
        (places / "data" / "set" / name).write_bytes(PUBLISHED[f"/{name}"])
    assert len(_files.find(dataset())) == 2
    (places / "data" / "set" / "one.txt").write_bytes(b"another")
    with pytest.raises(DataUnavailable, match=r"one\.txt"):
        _files.find(dataset())


def test_files_without_an_address_are_named_after_the_others_are_fetched(places, server):
    _, url = server
    own = dataset(url)
    own = Dataset("set", "A set", "Somebody", "free", "-", "-", {}, "How.", read_lengths, (
        File("three.txt", SUMS[0]), own.files[0]), folder="set")  # fmt: skip
    with pytest.raises(DataUnavailable, match=r"no public address of three\.txt.*Somebody"):
        _files.fetch(own)
    assert (places / "cache" / "set" / "one.txt").read_bytes() == b"one"


@pytest.mark.parametrize("name", names())
def test_every_set_says_what_it_is(name):
    known = describe(name)
    assert known.name == name
    assert all([known.title, known.source, known.licence, known.citation, known.clients, known.how])
    assert {"x", "y"} <= known.shapes.keys()
    assert all(len(file.sha256) == 64 for file in known.files)
    assert bool(known.files) == bool(known.folder)
    explained = known.how + known.clients + str(known.shapes)
    for option in known.options:
        assert option in explained or option in ("clients", "seed")


@pytest.mark.parametrize("name", [name for name in names() if describe(name).files])
def test_without_its_files_every_set_says_what_to_do(name, places, monkeypatch):
    absent = describe(name)
    monkeypatch.setattr(catalogue, "describe", lambda _: Dataset(**{**absent.__dict__, "system": ()}))
    for attempt in (find, load):
        with pytest.raises(DataUnavailable) as refused:
            attempt(name)
        assert all(file.name in str(refused.value) for file in absent.files)


def test_unknown_sets_and_options_name_the_nearest():
    with pytest.raises(PopulationError, match="Did you mean 'fashion-mnist'"):
        describe("fashion-minst")
    with pytest.raises(PopulationError, match="Did you mean 'clients'"):
        load("digits", client=3)
    assert fetch("digits") == find("digits") == []


def test_a_data_set_of_ones_own_is_fetched_checked_and_loaded(places, server):
    _, url = server
    own = dataset(url)
    with pytest.raises(DataUnavailable, match="not all of its files"):
        load(own)
    assert fetch(own) == find(own)
    assert load(own).train.sizes.tolist() == [3, 3000]
    assert load(own, repeat=2).train.sizes.tolist() == [3, 3000, 3, 3000]
    assert own.options == {"repeat": 1}
    with pytest.raises(PopulationError, match="Did you mean 'repeat'"):
        load(own, repeats=2)
    assert own.name not in names()
