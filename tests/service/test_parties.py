"""Parties that lie: devices that spoil rounds are found and barred, and a service that lies is refused by every device."""

import gzip
import http.server
import secrets
import threading
import time
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest

from fairyring.core.errors import ServiceRefused, ServiceUnreachable, WireError
from fairyring.core.packing import packed_size
from fairyring.device import agent as agents
from fairyring.device.agent import Agent
from fairyring.device.transport import Transport
from fairyring.messages import (
    About,
    Invitation,
    Later,
    Limits,
    Problem,
    Promise,
    Turn,
    encode,
    model_bytes,
    model_digest,
    sign,
)
from fairyring.secagg import Identity
from fairyring.secagg.messages import MaskedInput, Unmask, decode_kept
from fairyring.secagg.messages import encode as encode_message
from fairyring.service.choosing import Chooser
from fairyring.service.front import OFFENCES
from tests.service.scenes import SIZE, Scene


class Spoiler(Agent):
    """Takes part as it should, but for what `spoil` makes of its own steps."""

    def _send_masked(self, invitation, manifest, device, *rest):
        self.spoil(device, device._steps)
        return super()._send_masked(invitation, manifest, device, *rest)

    def spoil(self, device, steps):
        raise NotImplementedError


class Garbage(Spoiler):
    """Sends what is no masked vector."""

    def spoil(self, device, steps):
        honest = steps.mask

        def mask(memory, vector):
            memory, data = honest(memory, vector)
            built = decode_kept(data, MaskedInput)
            other = memoryview(secrets.token_bytes(packed_size(device.session.terms.words, 32)))
            forged = MaskedInput(built.root, built.sender, other, bytes(64))
            signature = device.identity.sign(forged.payload(device.session.context))
            return memory, encode_message(msgspec.structs.replace(forged, signature=signature))

        steps.mask = mask


class Silent(Spoiler):
    """Enters every session, and sends no shares."""

    def spoil(self, device, steps):
        steps.share = lambda *_: (
            self.stopping.wait(0.4) or (_ for _ in ()).throw(agents.Left("gone", "it is gone"))
        )


class WrongShares(Spoiler):
    """Returns other shares than it was given."""

    def spoil(self, device, steps):
        honest = steps.unmask

        def unmask(memory, given):
            memory, data = honest(memory, given)
            built = decode_kept(data, Unmask)
            shares = tuple(bytes(len(share) - 1) + b"\1" if share else share for share in built.shares)
            forged = msgspec.structs.replace(built, shares=shares)
            signature = device.identity.sign(forged.payload(device.session.context))
            return memory, encode_message(msgspec.structs.replace(forged, signature=signature))

        steps.unmask = unmask


def chosen_rounds(scene, rounds, cohort, tries=12):
    """Rounds of a run whose devices are chosen among those that are there; how often each needed to be tried."""
    chooser, tried, number = Chooser(scene.storage, scene.run, cohort, 1.0), [], 0
    for _ in range(rounds):
        for attempt in range(1, tries + 1):
            number += 1
            until = time.monotonic() + 10
            while not (keys := chooser.choose(set(scene.keys))):
                assert time.monotonic() < until
                time.sleep(0.05)
            invited = sorted(scene.keys.index(key) for key in keys)
            session = scene.open(number, invited, seconds=3.0, stage=2.0, maximum=cohort)
            stored = scene.ended(session)
            scene.check(session, number)
            reports = scene.storage.sessions.reports(session)
            summed = [report.device for report in reports if report.outcome == "summed"]
            chooser.heard(number, summed, stored.outcome)
            if stored.outcome == "summed":
                tried.append(attempt)
                break
        else:
            raise AssertionError(f"no sum in {tries} tries")
    return tried, chooser


def test_a_device_that_spoils_every_sum_is_left_out(tmp_path):
    """Masks hide whose numbers were wrong. After a few spoiled sums rounds are summed at the first try, without it."""
    with Scene(tmp_path, devices=7) as scene:
        scene.end(scene.agents[0])
        scene.begin(0, Garbage)
        tried, chooser = chosen_rounds(scene, 6, 4)
        assert tried[-3:] == [1, 1, 1]
        assert scene.storage.devices.get(scene.keys[0]).revoked is None or tried[-1] == 1
        spoiled = sum(tried) - len(tried)
        assert chooser.suspicion[scene.keys[0]] == spoiled


def test_a_device_that_enters_and_sends_nothing_does_not_end_rounds(tmp_path):
    with Scene(tmp_path, devices=5) as scene:
        scene.end(scene.agents[0])
        scene.begin(0, Silent)
        for number in range(1, 3):
            stored = scene.round(number, seconds=5.0, stage=3.0)
            assert (stored.outcome, stored.count) == ("summed", 4)
            assert stored.progress == {} or "failures" in stored.progress


def test_a_device_that_returns_wrong_shares_does_no_harm_and_nobody_is_barred_for_it(tmp_path):
    """Sums come out right without its shares. Who sealed a wrong share could have its honest neighbours named, so that bars nobody."""
    with Scene(tmp_path, devices=7) as scene:
        scene.end(scene.agents[0])
        scene.begin(0, WrongShares)
        for number in range(1, OFFENCES + 2):
            assert scene.round(number).outcome == "summed"
        assert all(scene.storage.devices.get(key).revoked is None for key in scene.keys)
        assert scene.round(50, invited=range(1, 7)).count == 6


# -- a service that lies ------------------------------------------------------------------------------------------


def settled(agent, what, seconds=15.0):
    """Wait until a device has refused something of this kind; returns why."""
    ledger, until = agent.parts[1], time.monotonic() + seconds
    while time.monotonic() < until:
        for refusal in ledger.refusals():
            if what in refusal.why:
                return refusal.why
        time.sleep(0.02)
    raise AssertionError(f"{ledger.refusals()} {agent.status}")


def refused_by_all(scene, what):
    return [settled(agent, what) for agent in scene.agents]


def test_a_manifest_that_was_changed_or_is_anothers_is_refused(tmp_path):
    with Scene(tmp_path, devices=3) as scene:
        signed = scene.service.blobs.get(scene.digest)
        stranger = Identity.generate()
        other = msgspec.structs.replace(scene.manifest, author=stranger.public)
        forged = msgspec.structs.replace(sign(other, stranger), signature=bytes(64)).encode()
        right = scene.digest
        for data, what in ((sign(other, stranger).encode(), "trusts"), (forged, "not its author's")):
            scene.digest = scene.service.blobs.put(data)
            # The service itself would not serve it; a service that lies does.
            digest = scene.digest

            async def hosted(_, digest=digest):
                return scene.manifest

            scene.service.front._manifest = hosted
            assert scene.ended(scene.open(1, seconds=5.0)).outcome == "aborted"
            refused_by_all(scene, what)
        assert signed
        scene.digest = right
        assert scene.round(1).outcome == "summed"


def test_another_model_or_program_than_was_named_is_refused(tmp_path, monkeypatch):
    """What is fetched has the digest that was signed, or that all devices of a sum agree on."""
    with Scene(tmp_path, devices=3) as scene:
        blobs, honest = scene.service.blobs, scene.service.front.part
        lie = {}

        async def part(blob, wanted):
            return await honest(lie.get(blob, blob), wanted)

        monkeypatch.setattr(scene.service.front, "part", part)
        other = blobs.put(model_bytes([np.ones(SIZE, np.float32)]))
        real = blobs.put(model_bytes([scene.model]))
        program = scene.manifest.programs["numbers"]
        for wrong in ({real: other}, {program: blobs.put(b"another")}, {scene.digest: blobs.put(b"{}")}):
            lie.clear()
            lie.update(wrong)
            for agent in scene.agents:
                for file in agent._folder.blobs.iterdir():
                    file.unlink(missing_ok=True)
            assert scene.ended(scene.open(1, seconds=5.0)).outcome == "aborted"
            assert not any(agent.parts[1].totals().contributions for agent in scene.agents)
        lie.clear()
        assert scene.round(1).outcome == "summed"


def test_two_models_in_one_sum_come_to_nothing(tmp_path):
    """A service that gives devices different models to compare what they send: what they sign does not agree."""
    with Scene(tmp_path, devices=4) as scene:
        other = np.ones(SIZE, np.float32)
        data, honest = model_bytes([other]), agents.Agent._take_part
        digest = scene.service.blobs.put(data)

        def misled(agent, invitation):
            return honest(agent, msgspec.structs.replace(invitation, model=digest))

        scene.agents[0]._take_part = lambda invitation: misled(scene.agents[0], invitation)
        stored = scene.ended(scene.open(1, seconds=3.0, stage=2.0))
        reports = scene.storage.sessions.reports(scene.storage.sessions.of_run(scene.run)[0].id)
        assert scene.keys[0] not in [one.device for one in reports if one.outcome == "summed"]
        assert stored.outcome == "summed"
        assert model_digest([other]) != model_digest([scene.model])


def test_two_sets_of_survivors_are_noticed(tmp_path):
    """A service that tells devices of different survivors gets the shares of nobody."""
    from fairyring.secagg._suite import bitmap
    from fairyring.secagg.messages import FromServer, Survivors

    with Scene(tmp_path, devices=4) as scene:
        session = scene.open(1, seconds=5.0, stage=2.0)
        while session not in scene.service.front.sessions:
            time.sleep(0.005)
        hosted = scene.service.front.sessions[session].hosted
        honest, told = hosted.sum.messages, set()

        def messages(device):
            found = honest(device)
            for data in found:
                message = decode_kept(data, FromServer)
                if isinstance(message, Survivors):
                    told.add(device)
                    if len(told) > 2:
                        return (encode_message(Survivors(message.root, bitmap({0, 1, 2}, 4))),)
            return found

        hosted.sum.messages = messages
        stored = scene.ended(session)
        assert stored.outcome == "aborted"
        assert len(told) == 4
        assert scene.storage.sessions.result(session) is None


def test_a_service_that_overspends_is_refused_by_every_ledger(tmp_path):
    promise = Promise(1.0, 1e-6, "device")
    with Scene(tmp_path, devices=3, changes={"limits": Limits(9, 3, 2), "promise": promise}) as scene:
        assert scene.round(1).outcome == "summed"
        for number, what in ((1, "session"), (2, "separation"), (10, "rounds")):
            assert scene.ended(scene.open(number, seconds=5.0)).outcome == "aborted" or number == 1, what
        refused_by_all(scene, "rounds between")
        refused_by_all(scene, "9 rounds")
        for number in (3, 5, 7, 9):
            scene.ended(scene.open(number, seconds=5.0))
        refused_by_all(scene, "3 contributions")
        for agent in scene.agents:
            assert agent.parts[1].totals().contributions == 3
        # The same plan, signed again with wider limits, or in another run, does not begin afresh.
        scene.submit(limits=Limits(1000, 1000, 1))
        for number in (1, 20):
            assert scene.ended(scene.open(number, seconds=5.0)).outcome == "aborted"
        assert all(agent.parts[1].totals().contributions == 3 for agent in scene.agents)


def test_one_session_is_not_another(tmp_path):
    """A service that asks again for a session with another round, after a device was interrupted, gets by no limit."""
    with Scene(tmp_path, devices=3) as scene:
        agent = scene.agents[0]
        ledger, session = agent.parts[1], secrets.token_bytes(16)
        begun = ledger.begin(scene.manifest, scene.digest, scene.run, 5, session)
        facts = {
            "run": scene.run, "session": session, "manifest": scene.digest, "round": 2000, "previous": None,
            "model": scene.service.blobs.put(model_bytes([scene.model])), "shared_key": (1, 2), "seconds": 60.0,
            "place": 0, "reservation": 0,
        }  # fmt: skip
        with pytest.raises(agents.Left, match="2000"):
            agent._take_part(Invitation(**facts))
        assert [one.number for one in ledger.unfinished()] == [begun]


def test_a_device_comes_back_after_ten_rounds(tmp_path):
    with Scene(tmp_path, devices=4, minimum=3) as scene:
        assert scene.round(1).count == 4
        scene.end(scene.agents[3])
        for number in range(2, 12):
            scene.model = scene.model + np.float32(0.5)
            assert scene.round(number, invited=[0, 1, 2]).count == 3
        scene.begin(3)
        scene.model = scene.model + np.float32(0.5)
        assert scene.round(12).count == 4


def test_a_device_whose_clock_is_off_takes_part(tmp_path):
    with Scene(tmp_path, devices=3) as scene:
        for agent in list(scene.agents):
            scene.end(agent)
        for number, off in enumerate((-600.0, 0.0, 86400.0)):
            agent = scene.begin(number)
            agent.parts[0]._clock = lambda off=off: time.time() + off
        assert scene.round(1).count == 3


# -- a service that answers anything -------------------------------------------------------------------------------


@contextmanager
def answering(answer):
    """A server that says what `answer(path)` gives: status, headers, pieces of the body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length") or 0)
            self.rfile.read(length)
            status, headers, pieces = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
            except OSError:
                self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_):
            """Nothing is said."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_no_answer_of_a_service_takes_more_memory_than_it_may(tmp_path):
    import tracemalloc

    bomb = gzip.compress(bytes(64 << 20))
    endless = lambda: (bytes(1 << 16) for _ in range(100_000))  # noqa: E731
    answers = {
        "/v1/about": lambda: (200, {"content-encoding": "gzip", "content-length": str(len(bomb))}, [bomb]),
        "/v1/check-in": lambda: (200, {}, endless()),
    }
    with answering(
        lambda path: answers.get(path, lambda: (200, {"content-range": "bytes 0-9/*"}, endless()))()
    ) as url:
        transport = Transport(url, Identity.generate(), service=bytes(32))
        tracemalloc.start()
        try:
            with pytest.raises(WireError):
                transport.about()
            with pytest.raises(WireError):
                transport.post("/v1/check-in", Later(1.0), Later)
            with pytest.raises(WireError):
                transport.blob(bytes(32), tmp_path, 1 << 20)
            assert tracemalloc.get_traced_memory()[1] < 32 << 20
        finally:
            tracemalloc.stop()
            transport.close()


@pytest.mark.parametrize(
    "given",
    [
        (200, {}, [b"\xc1"]),
        (200, {}, []),
        (200, {}, [encode(Turn("x"))]),
        (500, {}, [b"<html>"]),
        (302, {"location": "http://127.0.0.1:1/"}, []),
        (401, {"date": "no date"}, [encode(Problem("unsigned", "a", "b", "c"))]),
        (401, {"date": "Fri, 31 Dec 9999 23:59:59 GMT"}, [encode(Problem("unsigned", "a", "b", "c"))]),
        (206, {"content-range": "bytes 0-1/99999999"}, []),
    ],
)
def test_whatever_a_service_answers_the_agent_goes_on(given, tmp_path):
    with Scene(tmp_path, devices=1) as scene:
        agent = scene.agents[0]
        scene.end(agent)
        asked = []

        def answer(path):
            asked.append(path)
            if path == "/v1/about":
                return 200, {}, [encode(About(bytes(32), "1", (1,)))]
            return given

        with answering(answer) as url:
            agent = scene.begin(0, url=url)
            until = time.monotonic() + 10
            while len(asked) < 2 or agent.status.doing == "starting":
                assert time.monotonic() < until
                time.sleep(0.01)
            assert scene.threads[-1].is_alive()
            with pytest.raises((WireError, ServiceRefused, ServiceUnreachable)):
                agent._transport.blob(bytes(32), tmp_path, 1000)
            scene.end(agent)
