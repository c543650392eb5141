"""The wire format, the world's thread and the server: everything of the live page but the page."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.typing import Origin

from fairyring.core.errors import EcologyError, MissingExtra
from fairyring.ecology.watch.live.app import MOST_PAGES
from fairyring.ecology.watch.live.films import LONGEST_FILM, Film
from fairyring.ecology.watch.live.frames import HEADER, decode, encode
from fairyring.ecology.watch.live.history import LIMIT, History
from fairyring.ecology.watch.live.loop import BACKLOG, Loop
from fairyring.ecology.watch.live.messages import LONGEST, Restart, Turn, read
from fairyring.ecology.watch.live.server import Live, serve
from fairyring.ecology.watch.scene import Counts, Frame, Life, Mind, Scene
from tests.ecology.watch.fake_scene import FakeScene, FakeSettings

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
SMALL = FakeSettings(width=32, capacity=64, founders=20)


def until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Frames of any shape, with values as a world may have them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    width, n = draw(st.integers(1, 40)), draw(st.integers(0, 50))
    rows, columns = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    names = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8)
    fields = [
        (rng.random((width, width)) ** 3 * draw(st.sampled_from([0.0, 1e-30, 0.02, 3.0, 1e6]))).astype(
            np.float32
        )
        for _ in range(2)
    ]
    return Frame(
        step=draw(st.integers(0, 2**64 - 1)),
        food=fields[0],
        signal=draw(st.sampled_from([None, fields[1]])),
        uid=rng.integers(0, 2**31, n).astype(np.int32),
        x=(rng.random(n) * width).astype(np.float32),
        y=(rng.random(n) * width).astype(np.float32),
        direction=rng.uniform(-20, 20, n).astype(np.float32),
        energy=rng.uniform(-0.1, draw(st.sampled_from([0.01, 2.0, 50.0])), n).astype(np.float32),
        tumbling=rng.random(n) < 0.5,
        mind=Mind(
            kind=draw(st.sampled_from(["table", "rewards"])),
            rows=tuple(draw(names) for _ in range(rows)),
            columns=tuple(draw(names) for _ in range(columns)),
            mean=rng.normal(size=(rows, columns)).astype(np.float32),
            spread=rng.random((rows, columns)).astype(np.float32),
        ),
        counts=Counts(*(int(v) for v in rng.integers(0, 2**32, 4)), *(float(v) for v in rng.random(2) * 1e7)),
    )


@settings(max_examples=30, deadline=None)
@given(frames())
def test_a_frame_comes_back_as_exactly_as_the_format_keeps_it(frame: Frame) -> None:
    back = decode(encode(frame))
    width, most = len(frame.food), frame.energy.max(initial=0)
    assert (back.step, back.counts, back.mind.kind) == (frame.step, frame.counts, frame.mind.kind)
    assert (back.mind.rows, back.mind.columns) == (frame.mind.rows, frame.mind.columns)
    np.testing.assert_array_equal(back.mind.mean, frame.mind.mean)
    np.testing.assert_array_equal(back.mind.spread, frame.mind.spread)
    np.testing.assert_array_equal(back.uid, frame.uid)
    np.testing.assert_array_equal(back.tumbling, frame.tumbling)
    for one, other in ((frame.x, back.x), (frame.y, back.y)):
        assert ((other >= 0) & (other < width)).all()
        apart = np.abs(one - other)
        assert np.minimum(apart, width - apart).max(initial=0) <= width * 0.5001 / 65536 + 4e-6
    turned = np.angle(np.exp(1j * (frame.direction - back.direction).astype(np.float64)))
    assert np.abs(turned).max(initial=0) <= np.pi / 256 + 1e-5
    assert np.abs(frame.energy.clip(0) - back.energy).max(initial=0) <= most * 0.501 / 255
    assert (frame.signal is None) == (back.signal is None)
    for one, other in ((frame.food, back.food), (frame.signal, back.signal)):
        if one is not None and other is not None:
            # Half a unit in the last place, of the root.
            top = np.sqrt(max(float(one.max()), 1e-45))
            assert np.abs(np.sqrt(one.astype(np.float64)) - np.sqrt(other)).max() <= top * 0.502 / 255


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_bytes_that_are_not_a_whole_frame_are_refused(data: st.DataObject) -> None:
    whole = encode(FakeScene(FakeSettings(width=4, capacity=8, founders=3)).frame())
    cut = data.draw(st.integers(0, len(whole) - 1))
    longer = data.draw(st.binary(min_size=1, max_size=9))
    for broken in (
        whole[:cut],
        whole + longer,
        b"FRY\x02" + whole[4:],
        data.draw(st.binary(max_size=HEADER.size + 9)),
    ):
        with pytest.raises(EcologyError, match="one whole frame of version 1"):
            decode(broken)


@pytest.mark.parametrize(
    "change",
    [
        {"x": np.zeros(3, np.float32)},
        {"food": np.zeros((4, 3), np.float32)},
        {"food": np.full((4, 4), -1e-3, np.float32)},
        {"signal": np.full((4, 4), np.nan, np.float32)},
        {
            "mind": Mind(
                "table", ("a\nb",), ("c",), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
            )
        },
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_frame_that_does_not_fit_together_is_not_sent(change: dict[str, object]) -> None:
    frame = FakeScene(FakeSettings(width=4, capacity=8, founders=2)).frame()
    assert decode(encode(frame)).step == 0
    with pytest.raises(EcologyError, match=rf"frame\.{next(iter(change))}"):
        encode(replace(frame, **change))


@given(st.one_of(st.text(), st.binary()))
@example('{"kind": "speed", "steps": 3}')
@example('{"kind": "paint", "x": 1e999, "y": 0, "radius": 1, "amount": 1}')
@example('{"kind": "paint", "x": 1, "y": 0, "radius": 1, "amount": -1}')
@example('{"kind": "restart", "seed": 4294967296}')
@example('{"kind": "next", "more": 1}')
@example("[" * LONGEST)
@example("x" * (LONGEST + 1))
def test_what_a_page_may_not_ask_is_refused_in_words(text: str | bytes) -> None:
    with pytest.raises(EcologyError, match=r"^message: "):
        read(text)


def test_what_a_page_asks_is_read() -> None:
    assert read('{"kind": "turn", "name": "rho", "value": 2}') == Turn("rho", 2.0)
    assert read(b'{"kind": "restart", "seed": 4294967295}') == Restart(2**32 - 1)


def test_the_course_of_a_world_is_kept_in_few_points() -> None:
    history, empty = History(), FakeScene(SMALL).frame()
    for step in range(0, 40 * LIMIT, 3):
        history.add(replace(empty, step=step, counts=Counts(step, 2, 1, 0, 0.0, 0.0)))
    steps = [point[0] for point in history.points]
    assert LIMIT / 4 < len(steps) <= LIMIT
    assert steps[0] == 0
    assert 40 * LIMIT - steps[-1] <= 2 * history.gap
    # What happened between two points that are left is all that happened.
    assert all(
        (point[4] - before[4], point[5] - before[5])
        == (2 * (point[0] - before[0]) // 3, (point[0] - before[0]) // 3)
        for before, point in zip(history.points, history.points[1:], strict=False)
    )


class Eye:
    """A viewer that keeps what it is shown."""

    def __init__(self) -> None:
        self.watching: int | None = None
        self.frames: list[Frame] = []
        self.lives: list[Life | None] = []
        self.told: list[object] = []

    def show(self, frame: Frame, life: Life | None) -> None:
        self.lives.append(life)
        self.frames.append(frame)

    def tell(self, message: object) -> None:
        self.told.append(message)


class CountedScene(FakeScene):
    """Counts its frames, and may fail once."""

    made = 0
    failing = False

    def frame(self) -> Frame:
        self.made += 1
        return super().frame()

    def advance(self, steps: int) -> None:
        if self.failing:
            self.failing = False
            raise ZeroDivisionError
        super().advance(steps)


def test_no_frame_is_made_that_nobody_asked_for() -> None:
    scene, eye = CountedScene(SMALL), Eye()
    with Loop(scene) as loop:
        loop.join(eye)
        loop.set(paused=False, speed=0)
        until(lambda: scene.step > 200)
        assert scene.made == 0
        loop.ask(eye)
        until(lambda: eye.frames)
        then = scene.step
        until(lambda: scene.step > then + 100)
        assert scene.made == len(eye.frames) == 1


def test_the_world_waits_for_those_who_look_when_it_goes_by_frames() -> None:
    scene, eye = CountedScene(SMALL), Eye()
    with Loop(scene) as loop:
        loop.join(eye)
        loop.set(paused=False, speed=4)
        for count in (1, 2, 3):
            loop.ask(eye)
            until(lambda count=count: len(eye.frames) == count)
        time.sleep(0.05)
        assert scene.step == 12
        assert scene.advanced == [4, 4, 4]


def test_everyone_is_told_all_births_however_seldom_he_looks() -> None:
    scene, often, seldom = FakeScene(SMALL), Eye(), Eye()
    with Loop(scene) as loop:
        for eye in (often, seldom):
            loop.join(eye)
        loop.set(paused=False, speed=16)
        for count in range(1, 13):
            loop.ask(often)
            until(lambda count=count: len(often.frames) == count)
        loop.ask(seldom)
        until(lambda: seldom.frames)
        loop.set(paused=True)
        loop.ask(often)
        until(lambda: len(often.frames) == 13)
    heard = [
        sum(getattr(frame.counts, name) for frame in often.frames)
        for name in ("births", "deaths", "immigrants")
    ]
    last = seldom.frames[0].counts
    assert heard == [last.births, last.deaths, last.immigrants]
    assert sum(heard) > 0


def test_a_world_that_fails_stands_and_says_so_and_can_go_on(caplog: pytest.LogCaptureFixture) -> None:
    scene, eye = CountedScene(SMALL), Eye()
    scene.failing = True
    with Loop(scene) as loop:
        loop.join(eye)
        loop.set(paused=False, speed=1)
        loop.ask(eye)
        until(lambda: loop.state.paused)
        until(lambda: any(getattr(message, "given", "") == "ZeroDivisionError" for message in eye.told))
        loop.set(paused=False)
        loop.ask(eye)
        until(lambda: eye.frames)
    assert "the world stopped" in caplog.text
    assert scene.step == 1


def test_too_much_asked_at_once_is_refused_and_the_rest_is_done() -> None:
    scene, done = FakeScene(SMALL), []
    busy, free = threading.Event(), threading.Event()

    def hold(_: Scene) -> None:
        busy.set()
        free.wait(5)

    with Loop(scene) as loop:
        loop.do(hold, done.append)
        busy.wait(5)
        for number in range(BACKLOG):
            loop.do(lambda _, number=number: done.append(number), done.append)
        with pytest.raises(EcologyError, match="256 pending ones"):
            loop.do(lambda _: done.append(-1), done.append)
        free.set()
        until(lambda: len(done) == BACKLOG)
    assert done == list(range(BACKLOG))


# The server, over real sockets.


def live(scene: Scene, port: int = 0) -> Live:
    return Live(scene, port=port)


def look(port: int, *, origin: str | None = "http://127.0.0.1:{port}", host: str | None = None):
    sock = socket.create_connection(("127.0.0.1", port)) if host else None
    return connect(
        f"ws://{host or '127.0.0.1'}:{port}/look",
        origin=Origin(origin.format(port=port)) if origin else None,
        sock=sock,
        proxy=None,
    )


def hear(page, kind: str) -> dict:
    """The next message of a kind; frames and others are passed over."""
    while True:
        message = page.recv(timeout=30)
        if isinstance(message, str) and (said := json.loads(message))["kind"] == kind:
            return said


def see(page) -> Frame:
    page.send('{"kind": "next"}')
    while not isinstance(message := page.recv(timeout=30), bytes):
        pass
    return decode(message)


def test_a_page_is_greeted_and_sees_and_turns_the_world() -> None:
    scene = FakeScene(SMALL, seed=7)
    with live(scene) as served, look(served.port) as page:
        hello = hear(page, "hello")
        assert (hello["width"], hello["capacity"], hello["points"]) == (32, 64, [])
        assert hello["seed"] == 7
        knobs = hear(page, "knobs")["knobs"]
        assert [knob["name"] for knob in knobs] == ["rho", "source_lifetime", "minimum", "width"]
        assert [knob["new_world"] for knob in knobs] == [False, False, False, True]
        assert hear(page, "state") == {"kind": "state", "paused": True, "speed": 1}
        assert see(page).counts.population == 20
        page.send('{"kind": "turn", "name": "rho", "value": 2.5}')
        assert hear(page, "knobs")["knobs"][0]["value"] == 2.5
        page.send('{"kind": "turn", "name": "rho", "value": 99}')
        assert hear(page, "knobs")["knobs"][0]["value"] == 2.5
        assert hear(page, "error")["what"] == "knob 'rho'"
        page.send('{"kind": "watch", "uid": 3}')
        assert hear(page, "life")["life"]["generation"] == 0
        page.send('{"kind": "watch", "uid": 3000}')
        assert hear(page, "life")["life"] is None
        page.send('{"kind": "step"}')
        assert see(page).step == 1
        page.send('{"kind": "restart", "seed": 5}')
        hello = hear(page, "hello")
        assert (hello["points"], hello["seed"], hello["width"]) == ([], 5, 32)
        assert see(page).step == 0
        page.send('{"kind": "restart", "seed": 6, "changes": {"width": 48}}')
        hello = hear(page, "hello")
        assert (hello["seed"], hello["width"]) == (6, 48)
        assert scene.restarts == [5, 6]


def test_the_line_of_one_that_died_goes_on() -> None:
    scene = FakeScene(SMALL)
    while not any(life.died is not None and scene.heir(life.uid) for life in scene._lives.values()):
        scene.advance(16)
    dead = next(life.uid for life in scene._lives.values() if life.died is not None and scene.heir(life.uid))
    last = next(
        life.uid for life in scene._lives.values() if life.died is not None and not scene.heir(life.uid)
    )
    with live(scene) as served, look(served.port) as page:
        page.send(json.dumps({"kind": "heir", "uid": dead}))
        assert dead in hear(page, "life")["life"]["ancestors"]
        page.send(json.dumps({"kind": "heir", "uid": last}))
        assert hear(page, "error")["given"] == "a line that has died out"


@pytest.mark.parametrize(
    ("gap", "kept", "fps"), [(1 / 60, 60, 30), (1 / 30, 120, 30), (1 / 15, 120, 15), (2.0, 120, 5)]
)
def test_a_film_goes_at_the_pace_that_was_seen(gap: float, kept: int, fps: float) -> None:
    film = Film()
    for i in range(120):
        film.add(b"%d" % i, gap * i + 100.0 * (i >= 60))  # after a pause
    assert len(film.frames) == kept
    assert film.frames[:2] == [b"0", b"%d" % (120 // kept)]
    assert film.fps == pytest.approx(fps)
    for i in range(2000):
        film.add(b"", 1000.0 + i)
    assert len(film.frames) == 30 * LONGEST_FILM


def test_what_a_page_was_shown_is_filmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with live(FakeScene(SMALL)) as served, look(served.port) as page:
        page.send('{"kind": "film", "on": false}')
        assert hear(page, "error")["given"] == "no frames"
        see(page)
        page.send('{"kind": "film", "on": true}')
        assert hear(page, "filming") == {"kind": "filming", "on": True, "most": LONGEST_FILM}
        for _ in range(3):
            page.send('{"kind": "step"}')
            see(page)
            time.sleep(0.04)
        page.send('{"kind": "film", "on": false}')
        assert hear(page, "filming")["on"] is False
        filmed = hear(page, "filmed")
        assert filmed["frames"] == 3
        with urlopen(served.url + filmed["url"].lstrip("/"), timeout=30) as answer:
            content = answer.read()
        (tmp_path / "film.mp4").write_bytes(content)
        frames = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))[0]
        assert frames == 3
        with pytest.raises(HTTPError, match="404"):
            urlopen(served.url + "film/other.mp4", timeout=30)
        # Without the package the page is told before it films.
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
        page.send('{"kind": "film", "on": true}')
        assert "fairyring[video]" in hear(page, "error")["do"]


def test_malformed_messages_are_answered_and_the_world_goes_on() -> None:
    scene = FakeScene(SMALL)
    with live(scene) as served, look(served.port) as page:
        page.send('{"kind": "speed", "steps": 0}')
        page.send('{"kind": "pause", "on": false}')
        for broken in (
            "",
            "{",
            '{"kind": "dance"}',
            b"\x00\xff",
            '{"kind": "speed", "steps": 5}',
            "x" * 2000,
        ):
            page.send(broken)
            said = hear(page, "error")
            assert said["what"] == "message"
            assert said["do"] == "Reload the page."
        then = scene.step
        until(lambda: scene.step > then)
        # What is far too long ends this page's connection, and nothing else.
        page.send("x" * 100_000)
        with pytest.raises(Exception, match="1009"):
            hear(page, "nothing of the kind")
        with look(served.port) as another:
            assert see(another).step >= then


def test_a_page_that_could_not_be_greeted_leaves_its_place() -> None:
    held, free = threading.Event(), threading.Event()

    class Slow(FakeScene):
        def paint(self, x: float, y: float, radius: float, amount: float) -> None:
            held.set()
            free.wait(30)
            super().paint(x, y, radius, amount)

    scene = Slow(SMALL)
    with live(scene) as served, look(served.port) as busy:
        stroke = '{"kind": "paint", "x": 1, "y": 1, "radius": 1, "amount": 0}'
        busy.send(stroke)
        assert held.wait(30)
        for _ in range(BACKLOG + 1):
            busy.send(stroke)
        assert hear(busy, "error")["given"] == "256 pending ones"
        for _ in range(MOST_PAGES + 1):
            with look(served.port) as turned_away:
                assert hear(turned_away, "error")["given"] == "256 pending ones"
                with pytest.raises(Exception, match="1013"):
                    hear(turned_away, "nothing more")
        free.set()
        until(lambda: len(scene.painted) == BACKLOG + 1)
        with ExitStack() as stack:
            for _ in range(MOST_PAGES - 1):
                assert see(stack.enter_context(look(served.port))).step == 0
            with look(served.port) as one_too_many:
                assert hear(one_too_many, "error")["given"] == "8 open pages"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "localhost"])
def test_a_world_answers_to_its_own_address(host: str) -> None:
    with Live(FakeScene(SMALL), host=host) as served, urlopen(served.url, timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, None),
        ("http://example.org", None),
        ("http://127.0.0.1:1", None),
        ("null", None),
        ("http://evil.example:{port}", "evil.example"),
    ],
)
def test_a_page_of_another_site_cannot_look(origin: str | None, host: str | None) -> None:
    with live(FakeScene(SMALL)) as served, pytest.raises(Exception, match="403"):
        look(served.port, origin=origin, host=host)


def test_the_page_is_served_under_this_machines_names_only() -> None:
    with live(FakeScene(SMALL)) as served:

        def get(path: str, host: str) -> tuple[int, str, bytes]:
            connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
            try:
                connection.request("GET", path, headers={"Host": host})
                answer = connection.getresponse()
                return answer.status, answer.headers.get("content-security-policy", ""), answer.read()
            finally:
                connection.close()

        for name in (f"127.0.0.1:{served.port}", "localhost", "[::1]:9", "127.8.8.8"):
            status, policy, body = get("/", name)
            assert status == 200
            assert "default-src 'none'" in policy
            assert b"<canvas" in body
        for name in (
            "evil.example",
            f"evil.example:{served.port}",
            "192.168.0.2",
            "localhost.evil.example",
            "[",
            "",
        ):
            assert get("/", name)[0] == 421
        assert get("/../server.py", "localhost")[0] == 404
        for path in (
            "/page.js",
            "/page.css",
            "/panels.css",
            "/dish.js",
            "/bodies.js",
            "/frames.js",
            "/panels.js",
            "/knobs.js",
            "/save.js",
            "/course.js",
        ):
            status, _, body = get(path, "localhost")
            assert (status, len(body) > 500) == (200, True)
            # Nothing is fetched from elsewhere.
            assert b"http://" not in body.replace(b"http://www.w3.org/", b"")
            assert b"https://" not in body


def test_it_serves_until_it_is_interrupted() -> None:
    program = (
        "from fairyring.ecology.watch.live.server import serve\n"
        "from tests.ecology.watch.fake_scene import FakeScene\n"
        "serve(FakeScene(), port=0, open_browser=False, on_start=lambda url: print(url, flush=True))\n"
        "print('done')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().split(":")[2].strip("/\n"))
        with look(port) as page:
            assert see(page).step == 0
            server.send_signal(signal.SIGINT)
            assert server.wait(10) == 0
        assert server.stdout.read() == "done\n"


def test_a_port_that_is_taken_is_said() -> None:
    with live(FakeScene(SMALL)) as served, pytest.raises(EcologyError, match=f"port {served.port}"):
        live(FakeScene(SMALL), port=served.port)


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "websockets"])
def test_a_missing_package_names_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"no package '{package}'.*fairyring\[live\]"):
        serve(FakeScene(SMALL), port=0, open_browser=False)
