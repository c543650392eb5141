"""A service among strangers: whatever is sent to it is refused with a reason, nothing of it is an error, and rounds go on."""

import logging
import secrets
import socket
import time
from contextlib import suppress
from itertools import count, cycle
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fairyring.core.errors import WireError
from fairyring.messages import CheckIn, Enrol, Later, Leave, Problem, decode, encode, patched, signed_request
from fairyring.messages.forms import SMALL
from fairyring.messages.signing import NONCE, WINDOW
from fairyring.secagg import Identity
from fairyring.service import connections, http
from fairyring.service.front import OFFENCES
from fairyring.service.options import RunOptions, Submission
from fairyring.service.refusals import STATUS
from tests.service.scenes import Scene

OURS = {"fairyring-intent": "command"}
ROUNDS = count(1)  # devices refuse one that was before
PROBLEMS = set(STATUS.values()) - {500}


ENDPOINTS = {
    "check-in": ("POST", "/v1/check-in"),
    "enrol": ("POST", "/v1/enrol"),
    "session": ("POST", "/v1/sessions/SESSION?seen=advertising"),
    "leave": ("POST", "/v1/sessions/SESSION/leave"),
    "blob": ("GET", "/v1/blobs/" + "ab" * 32),
    "submit": ("POST", "/v1/runs"),
    "want": ("POST", "/v1/runs/RUN/want"),
    "tokens": ("POST", "/v1/tokens"),
    "devices": ("POST", "/v1/devices"),
    "revoke": ("POST", "/v1/devices/" + "ab" * 32 + "/revoke"),
    "put": ("PUT", "/v1/blobs/" + "ab" * 32),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
PLAUSIBLE = st.builds(
    lambda fields: msgspec.msgpack.encode(fields),
    st.dictionaries(
        st.sampled_from(
            ["form", "version", "speaks", "targets", "token", "name", "reason", "eligible", "refused"]
        ),
        st.sampled_from(
            ["check_in", "enrol", "leave", "", "1", 1, -1, [1], ["a"], [b"x"], None, 2**63, True, 1.5]
        ),
        max_size=6,
    ),
)
ASKED = st.builds(
    lambda fields: msgspec.json.encode(fields),
    st.dictionaries(
        st.sampled_from(["quota", "seconds", "what", "reason", "name", "password"]),
        st.sampled_from([0, -1, 1e300, 2**70, 1.5, "pause", "x", "\x00", None, [], {}]),
        max_size=4,
    ),
)
DEEP = st.integers(1, 3000).map(lambda n: b"[" * n) | st.integers(1, 3000).map(lambda n: b"\x91" * n)
BODIES = st.one_of(
    st.binary(max_size=300), PLAUSIBLE, ASKED, DEEP, JSON.map(lambda v: msgspec.json.encode(v))
)


class Kept(logging.Handler):
    """All that the service logs."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(self.format(record))


class Attacker:
    """Whoever can reach the service; keeps all that it was told."""

    def __init__(self, scene):
        self.scene, self.told = scene, b""
        self.http = httpx2.Client(base_url=scene.service.url, timeout=30.0)

    def ask(self, method, path, **given):
        answer = self.http.request(method, path, **given)
        self.told += answer.content + repr(sorted(answer.headers.items())).encode()
        return answer

    def signed(self, identity, method, path, body=b"", *, at=0.0, service=None, **changes):
        """A request as a device signs it, but for the changes to its headers."""
        key = service or self.scene.service.identity.public
        headers = signed_request(identity, key, method, path, body, time.time() + at).headers()
        return self.ask(method, path, content=body, headers=headers | changes)


@pytest.fixture(scope="module")
def said():
    handler, logger = Kept(), logging.getLogger("uvicorn")
    logger.addHandler(handler)
    yield handler.said
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def bodies(request):
    """Drawn before any thread runs: what else draws random numbers would be taken for a strategy that does."""
    found = []
    examples = 10_000 if request.config.getoption("soak") else 200

    @settings(
        max_examples=examples, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )
    @given(BODIES)
    def draw(body):
        found.append(body)

    draw()
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory, said, bodies):
    with Scene(tmp_path_factory.mktemp("hostile")) as made:
        made.service.front.rates.burst = made.service.front.rates.rate = 1e9
        made.service.front.addresses.burst = made.service.front.addresses.rate = 1e9
        yield made


@pytest.fixture(scope="module")
def attacker(scene):
    made = Attacker(scene)
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def member(scene):
    """A device that is enrolled, whose key the attacker has."""
    identity = Identity.generate()
    scene.storage.devices.allow([identity.public])
    return identity


CHECK_IN = encode(CheckIn("1", (1,), ("other",)))


def kind_of(answer):
    problem = decode(answer.content, Problem)
    assert answer.status_code == STATUS[problem.kind]
    return problem.kind


def test_what_a_device_did_not_sign_like_this_is_refused(scene, attacker, member):
    path = "/v1/check-in"
    before = dict(scene.service.front.refused)
    assert decode(attacker.signed(member, "POST", path, CHECK_IN).content, Later)
    headers = signed_request(
        member, scene.service.identity.public, "POST", path, CHECK_IN, time.time()
    ).headers()

    def sent(body=CHECK_IN, target=path, **changes):
        return kind_of(attacker.ask("POST", target, content=body, headers=headers | changes))

    assert kind_of(attacker.ask("POST", path, content=CHECK_IN)) == "unsigned"
    assert sent(CHECK_IN + b"x") == "unsigned"
    assert sent(target=path + "?x=1") == "unsigned"
    assert sent(**{NONCE: secrets.token_hex(16)}) == "unsigned"
    assert sent(**{"fairyring-key": Identity.generate().public.hex()}) == "unsigned"
    # Half a nonce, filled with spaces, which are no digits.
    assert sent(**{NONCE: "00" + " " * 28 + "00"}) == "unsigned"
    for off in (-WINDOW - 5, WINDOW + 5):
        assert kind_of(attacker.signed(member, "POST", path, CHECK_IN, at=off)) == "unsigned"
    other = Identity.generate().public
    assert kind_of(attacker.signed(member, "POST", path, CHECK_IN, service=other)) == "unsigned"
    assert attacker.ask("POST", path, content=CHECK_IN, headers=headers).status_code == 200
    assert sent() == "replayed"
    stranger = Identity.generate()
    assert kind_of(attacker.signed(stranger, "POST", path, CHECK_IN)) == "unknown_device"
    counted = scene.service.front.refused
    assert counted["unsigned"] - before.get("unsigned", 0) == 9
    assert counted["replayed"] - before.get("replayed", 0) == 1


def test_a_stranger_leaves_nothing_in_the_database(scene, attacker):
    def nonces():
        return scene.storage.database.read(
            "n", lambda c: c.exec_driver_sql("SELECT count(*) FROM nonces").scalar()
        )

    before = nonces()
    for _ in range(5):
        attacker.signed(Identity.generate(), "POST", "/v1/check-in", CHECK_IN)
    # The devices of the scene check in meanwhile; each stranger would be one more of another key.
    keys = scene.storage.database.read(
        "n", lambda c: c.exec_driver_sql("SELECT count(DISTINCT key) FROM nonces").scalar()
    )
    assert before > 0
    assert keys <= scene.count + 3


def test_a_device_that_was_revoked_is_refused(scene, attacker):
    identity = Identity.generate()
    scene.storage.devices.allow([identity.public])
    scene.storage.devices.revoke(identity.public, "lost")
    assert kind_of(attacker.signed(identity, "POST", "/v1/check-in", CHECK_IN)) == "revoked"
    assert kind_of(attacker.signed(identity, "POST", f"/v1/sessions/{'0' * 32}", b"")) == "revoked"
    assert kind_of(attacker.signed(identity, "POST", "/v1/enrol", encode(Enrol("", "")))) == "not_enrolled"


def test_forms_of_another_version_or_with_names_that_cannot_be_shown(scene, attacker, member):
    def sent(form):
        return kind_of(attacker.signed(member, "POST", "/v1/check-in", encode(form)))

    assert sent(CheckIn("9", (2, 3), ())) == "unsupported"
    assert sent(CheckIn("1\n", (1,), ())) == "malformed"
    assert sent(CheckIn("1", (1,), ("x\x00",))) == "malformed"
    assert sent(Later(1.0)) == "malformed"
    token = scene.storage.tokens.create(1, time.time() + 60)
    answer = attacker.signed(Identity.generate(), "POST", "/v1/enrol", encode(Enrol(token, "a\x1bb")))
    assert kind_of(answer) == "malformed"
    # What one device says of itself does not keep the others from being seen.
    until = time.monotonic() + 10
    while any(scene.storage.devices.get(key).seen is None for key in scene.keys):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_nobody_reads_what_is_larger_than_it_may_be(scene, attacker, member):
    body = b"x" * (SMALL + 1)
    assert kind_of(attacker.signed(member, "POST", "/v1/check-in", body)) == "too_large"
    # Without a length in advance, too.
    headers = signed_request(
        member, scene.service.identity.public, "POST", "/v1/check-in", b"", time.time()
    ).headers()
    pieces = (b"x" * 8192 for _ in range(1000))
    assert kind_of(attacker.ask("POST", "/v1/check-in", content=pieces, headers=headers)) == "too_large"
    session = scene.open(next(ROUNDS), invited=[0, 1, 2])
    large = b"x" * (1 << 20)
    # From a stranger not a byte of it is wanted, nor of a session that there is not.
    path = f"/v1/sessions/{session.hex()}"
    assert kind_of(attacker.signed(Identity.generate(), "POST", path, large)) == "unknown_device"
    assert kind_of(attacker.signed(member, "POST", f"/v1/sessions/{'0' * 32}", large)) == "not_found"
    assert kind_of(attacker.signed(member, "POST", path, large)) == "too_large"
    assert scene.ended(session).outcome == "summed"


def test_a_device_that_sends_too_much_again_and_again_is_barred_and_stays_so(scene, attacker):
    identity = Identity.generate()
    scene.storage.devices.allow([identity.public])
    for _ in range(OFFENCES):
        session = scene.open(next(ROUNDS), invited=[0, 1, 2])
        facts = scene.storage.sessions.get(session).facts
        while session not in scene.service.front.sessions:
            time.sleep(0.01)
        hosted = scene.service.front.sessions[session].hosted
        hosted.places[identity.public] = 99
        longest = 4096 + 256 * facts["maximum"]
        for _again in range(2):  # twice in one session is one offence
            answer = attacker.signed(identity, "POST", f"/v1/sessions/{session.hex()}", b"x" * (longest + 1))
            assert kind_of(answer) in ("too_large", "revoked")
        del hosted.places[identity.public]
        scene.ended(session)
    assert "broke the protocol" in scene.storage.devices.get(identity.public).reason
    assert any(noted.action == "bar" for noted in scene.storage.audit.read(100))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/blobs/..%2f..%2fservice.key",
        "/v1/blobs/../../service.key",
        "/v1/blobs/" + "g" * 64,
        "/v1/sessions/..%2f..%2fservice.key",
        "/v1/sessions/" + "0" * 31,
        "/v1/sessions/%00",
        "/static/../service.key",
        "/..%2fservice.key",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/runs/..%2f..%2fservice.key/log",
        "/v1/runs/..%2f..%2fservice/report",
        "/v1/runs/%00/log",
        "/v1/runs/" + "x" * 5000,
        "/v1/devices/%2e%2e/revoke",
    ],
)
def test_no_path_leads_out(scene, attacker, member, path):
    for method in ("GET", "POST", "PUT"):
        parts = urlsplit(scene.service.url)
        body = b"{}"
        headers = (
            signed_request(
                member,
                scene.service.identity.public,
                method,
                path,
                body if method != "GET" else b"",
                time.time(),
            ).headers()
            | OURS
        )
        lines = [f"{method} {path} HTTP/1.1", f"host: {parts.netloc}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"content-length: {len(body) if method != 'GET' else 0}")
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + (body if method != "GET" else b"")
        answer = raw(scene, request)
        status = int(answer.split(b" ")[1])
        assert 400 <= status < 500, answer
        assert scene.service.identity.private_bytes() not in answer
        assert b"root:" not in answer
        attacker.told += answer


def raw(scene, data, seconds=10.0):
    """What comes back for these bytes."""
    parts = urlsplit(scene.service.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_a_body_that_does_not_come_is_not_waited_for(scene, attacker, member, monkeypatch):
    monkeypatch.setattr(http, "BODY_SECONDS", 0.3)
    headers = signed_request(
        member, scene.service.identity.public, "POST", "/v1/check-in", b"", time.time()
    ).headers()
    lines = ["POST /v1/check-in HTTP/1.1", "host: x", "content-length: 100"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    parts = urlsplit(scene.service.url)
    slow = [socket.create_connection((parts.hostname, parts.port), timeout=10) for _ in range(20)]
    for connection in slow:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\nx")
    began = time.monotonic()
    assert attacker.signed(member, "POST", "/v1/check-in", CHECK_IN).status_code == 200
    assert time.monotonic() - began < 5
    for connection in slow:
        assert b" 409 " in connection.recv(4096)
        connection.close()


def test_what_is_no_http_is_no_error_and_not_waited_for(scene, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    for data in (
        b"",
        b"GET / HT",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\nconnection: close\r\n\r\n",
    ):
        assert b" 500 " not in raw(scene, data)
    big = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: " + b"b" * (1 << 18) + b"\r\n\r\n"
    with suppress(ConnectionError):  # it does not read to the end
        assert b" 500 " not in raw(scene, big)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_random_bodies_are_refused(name, bodies, scene, attacker, member, monkeypatch):
    method, path = ENDPOINTS[name]
    session, run = secrets.token_bytes(16), scene.run
    if name == "want":
        run = scene.storage.runs.submit("another", scene.digest, scene.author.public, {}, by="test")
    if name in ("session", "leave"):
        session = scene.open(next(ROUNDS), invited=[0, 1, 2], seconds=600.0)
        while session not in scene.service.front.sessions:
            time.sleep(0.01)
        hosted = scene.service.front.sessions[session].hosted
        monkeypatch.setitem(hosted.places, member.public, 50)
        monkeypatch.setattr("fairyring.service.hosting.HELD", 0.01)
        monkeypatch.setattr("fairyring.service.front.OFFENCES", 10**9)
    path = path.replace("SESSION", session.hex()).replace("RUN", run)
    allowed = PROBLEMS | (set() if name in ("enrol", "blob", "submit", "put") else {200})
    operator = name in ("submit", "want", "tokens", "devices", "revoke", "put")
    for body, kind in zip(bodies, cycle(["application/msgpack", "application/json", "text/html", ""])):
        content = {"content-type": kind, **OURS}
        if operator:
            answer = attacker.ask(method, path, content=body, headers=content)
        else:
            answer = attacker.signed(member, method, path, b"" if method == "GET" else body, **content)
        assert answer.status_code in allowed, (body, answer.status_code, answer.content)
    if name in ("session", "leave"):
        monkeypatch.undo()
        assert scene.ended(session).outcome in ("summed", "aborted")


def submission(files, entry="plan.py", **changes):
    given = {"manifest": b"", "options": RunOptions(rounds=1), "files": files, "entry": entry} | changes
    return msgspec.msgpack.encode(Submission(secrets.token_bytes(16), **given))


def test_a_submission_writes_nothing_elsewhere(scene, attacker, tmp_path):
    from fairyring.cli._conduct import _written
    from fairyring.core.errors import RunError
    from fairyring.service.options import Source

    signed = scene.service.blobs.get(scene.digest)
    for name in ("../out.py", "/out.py", "a/../../out.py", "", "..", "c:\\out.py", "a\0b", "a\\..\\b"):
        answer = attacker.ask(
            "POST", "/v1/runs", content=submission({name: b"x"}, manifest=signed), headers=OURS
        )
        assert answer.status_code == 400, name
    with pytest.raises(RunError):
        _written(Source({"../out.py": b"x"}, "plan.py"), tmp_path / "source")
    for entry in ("../../plan.py", "/etc/passwd", "other.py"):
        with pytest.raises(RunError):
            _written(Source({"plan.py": b"x"}, entry), tmp_path / "source")
    assert not (tmp_path / "out.py").exists()
    changed = bytearray(signed)
    changed[len(changed) // 2] ^= 1
    answer = attacker.ask("POST", "/v1/runs", content=submission({}, manifest=bytes(changed)), headers=OURS)
    assert answer.status_code == 400


def test_another_sites_page_is_no_operator(scene, attacker):
    """On this machine, as long as there are no operators, whoever is on it is one. A page that its browser shows is not."""
    path, body = f"/v1/runs/{scene.run}/want", b'{"what": "pause"}'
    assert attacker.ask("POST", path, content=body).status_code == 403
    # Browsers send such credentials by themselves, for whatever page.
    for credentials in ("Basic eDp5", "Bearer", "Negotiate x", "bearer x"):
        assert (
            attacker.ask("POST", path, content=body, headers={"authorization": credentials}).status_code
            == 403
        )
    # A name of the attacker that leads to this machine.
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"):
        for method, where in (
            ("POST", path),
            ("GET", "/v1/snapshot"),
            ("GET", "/metrics"),
            ("GET", "/v1/events"),
        ):
            answer = attacker.ask(
                method, where, headers=OURS | {"host": host}, content=body if method == "POST" else None
            )
            assert answer.status_code in (400, 401), (host, where)
    assert scene.storage.runs.get(scene.run).wanted == "run"


def test_a_viewer_looks_and_an_operator_acts(tmp_path, said):
    with Scene(tmp_path, devices=0) as scene:
        attacker = Attacker(scene)
        operators = scene.storage.operators
        operators.add("olga", "correct horse", "operator")
        operators.add("vera", "battery staple", "viewer")
        assert attacker.ask("GET", "/v1/snapshot").status_code == 401  # nobody is one by being here any more

        def login(name, password, headers=OURS):
            body = msgspec.json.encode({"name": name, "password": password})
            return attacker.ask("POST", "/v1/login", content=body, headers=headers)

        assert login("olga", "correct horse", {}).status_code == 403
        assert login("olga", "wrong").status_code == 401
        tokens = {
            name: login(name, word).json()["token"]
            for name, word in [("olga", "correct horse"), ("vera", "battery staple")]
        }
        told = attacker.told
        attacker.told = b""
        attacker.http.cookies.clear()
        path, body = f"/v1/runs/{scene.run}/want", b'{"what": "pause"}'
        for name, status in (("vera", 403), ("olga", 200)):
            headers = {"authorization": f"Bearer {tokens[name]}"}
            assert attacker.ask("GET", "/v1/snapshot", headers=headers).status_code == 200
            assert attacker.ask("POST", path, content=body, headers=headers).status_code == status
            # By a cookie, a change needs the page's own header.
            cookie = {"cookie": f"fairyring={tokens[name]}"}
            assert attacker.ask("POST", path, content=body, headers=cookie).status_code == 403
            for where in ("/v1/tokens", "/v1/devices", "/v1/runs", "/v1/devices/00/revoke"):
                answer = attacker.ask("POST", where, content=b"{}", headers=headers)
                assert answer.status_code == 403 if name == "vera" else answer.status_code in (200, 400, 409)
        # Somebody who guesses is slowed down.
        assert [login("olga", f"guess {n}").status_code for n in range(12)][-1] == 429
        assert scene.service.front.refused["too_many"] > 0
        for secret in ("correct horse", "battery staple", *tokens.values()):
            assert secret.encode() not in attacker.told
            assert secret not in "".join(said)
        assert b"correct horse" not in told
        attacker.http.close()


def test_a_change_that_grows_without_end_is_no_change():
    """A decompression bomb: a kilobyte that would become a gigabyte."""
    import tracemalloc
    import zlib

    packer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    bomb = b"".join(packer.compress(piece) for _ in range(64)) + packer.flush()
    old = bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            patched(old, bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    for change in (b"", b"x", bomb[:10], zlib.compress(bytes(999)), zlib.compress(bytes(1001))):
        with pytest.raises(WireError):
            patched(old, change)


def test_a_device_that_leaves_again_and_again_is_counted_once(scene, attacker):
    session = scene.open(next(ROUNDS), invited=[0, 1, 2, 3], seconds=600.0)
    while session not in scene.service.front.sessions:
        time.sleep(0.01)
    hosted = scene.service.front.sessions[session].hosted
    identity = scene.folders[3].identity
    for number in range(10):
        reason = "abcdefghij"[number] * 5
        answer = attacker.signed(
            identity, "POST", f"/v1/sessions/{session.hex()}/leave", encode(Leave(reason))
        )
        assert answer.status_code == 200
    assert sum(hosted.failures.values()) <= 1
    scene.ended(session)


def test_afterwards_a_round_is_served_and_nothing_went_wrong(scene, attacker, said):
    stored = scene.round(next(ROUNDS))
    assert (stored.outcome, stored.count) == ("summed", scene.count)
    assert not [line for line in said if "Traceback" in line or "ERROR" in line or "Exception" in line]
    secret = [scene.service.identity.private_bytes(), *(folder.secret for folder in scene.folders)]
    for hidden in secret:
        assert hidden not in attacker.told
        assert hidden.hex().encode() not in attacker.told
