"""The committee whose signatures everybody checks: in whole sessions, and what a device refuses of it."""

from collections.abc import Callable

import msgspec
import pytest

from fairyring.core.errors import SecureSumError, SessionAborted
from fairyring.secagg import Device, GraphParameters, MemoryLog, Server, Session, traffic, verify
from fairyring.secagg._committee import Committee
from fairyring.secagg._suite import digest
from fairyring.secagg.graph import Ring
from fairyring.secagg.messages import Advertise, Roster, Signatures, decode_kept, encode
from tests.secagg.driving import EVENTS, Play, foretold, identity, root_secret, small_terms, vectors_of
from tests.secagg.hostile import View
from tests.secagg.lying import forced
from tests.secagg.test_sum import end


def full(devices: int, vanish: dict[int, str] | None = None, **terms: float) -> Play:
    built = small_terms(devices, length=3, threat="semi_malicious", **terms)  # type: ignore[arg-type]
    return Play(built, vectors_of(devices, built), vanish)


def test_a_session_with_a_committee_gives_the_sum_and_costs_what_is_said() -> None:
    play = full(61, adversarial=0.1, dropout=0.1)
    terms = play.session.terms
    assert terms.graph(61) == (28, 22)
    assert terms.committee(61) == (19, 13)
    assert end(play) is None
    text = traffic(terms, 61)
    for i in range(61):
        up = sum(len(data) for (number, _), data in play.sent.items() if number == i)
        down = sum(len(data) for (number, _), data in play.delivered.items() if number == i)
        assert (up, down) == text  # an index below 128 takes the same byte as the largest


def test_devices_that_vanish_do_not_spoil_it() -> None:
    play = full(61, {10 * i: EVENTS[i % 5] for i in range(6)}, adversarial=0.1, dropout=0.1)
    assert end(play) is None
    assert foretold(play, play.session.terms.graph(61)) is None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Play]:
    """Sessions of twenty with eight neighbours each, and a committee of seven of whom five must sign."""

    def built(vanish: dict[int, str] | None = None) -> Play:
        forced(monkeypatch, GraphParameters(8, 5), Committee(7, 5))
        return full(20, vanish)

    return built


def committee_of(play: Play) -> list[int]:
    return [play.number[play.server._state.roster[i].identity] for i in play.server._state.committee]


def test_without_enough_of_the_committee_there_is_no_sum(small: Callable[..., Play]) -> None:
    play = small()
    assert end(play) is None
    members = committee_of(play)
    assert len(set(members)) == 7
    for gone, ends in ((members[:2], None), (members[:3], "confirming")):
        again = small(dict.fromkeys(gone, "survivors"))
        assert end(again) == foretold(again, again.session.terms.graph(20)) == ends


def before(play: Play, phase: str, kind: str) -> tuple[Device, bytes]:
    """Device 0 as it was before a message of the server's, and that message."""
    log = MemoryLog([record for record in play.logs[0]])
    kinds = [record.kind for record in log]
    log = MemoryLog(list(log)[: kinds.index(kind)])
    device = Device(play.session, identity(0), log, entropy=lambda size: root_secret(0)[:size])
    return device, play.delivered[0, phase]


def refused(device: Device, message: object, match: str) -> None:
    with pytest.raises(SessionAborted, match=match):
        device.receive(encode(message))  # type: ignore[arg-type]
    assert device.phase == "aborted"


def test_a_device_takes_only_the_committee_the_root_gives(small: Callable[..., Play]) -> None:
    play = small().run()
    roster = decode_kept(before(play, "sharing", "roster")[1], Roster)
    near, committee = roster.neighbours[:8], roster.neighbours[8:]
    stranger = next(a for a in play.server._state.roster if a not in committee)
    for changed, match in (
        ((*near, *committee[:-1]), "adverts of 14 devices"),
        ((*near, *committee, stranger), "adverts of 16 devices"),
        ((*near, *committee[:-1], stranger), "an advert that is not a neighbour's"),
        ((*near, *committee[::-1]), "an advert that is not a neighbour's"),
        (near, "adverts of 8 devices"),
    ):
        device, _ = before(play, "sharing", "roster")
        refused(device, Roster(roster.entries, roster.beacon, changed), match)


def test_no_identity_is_in_a_large_roster_twice_however_far_apart() -> None:
    """Of most of a large session a device sees no advert, and a corrupt one that is there twice counts twice."""
    terms = small_terms(61, threat="semi_malicious", adversarial=0.1, dropout=0.1)
    session = Session(terms, 0, bytes(32))

    def device(i: int, seed: int = 0) -> Device:
        return Device(
            session, identity(i), MemoryLog(), entropy=lambda size: root_secret(i, seed)[:size]
        )  # fmt: skip

    devices = [device(i) for i in range(60)]
    adverts = [decode_kept(one.start(), Advertise) for one in devices]
    twin = decode_kept(device(0, 1).start(), Advertise)
    assert twin.identity == adverts[0].identity
    view = View(session, [*adverts, twin])
    assert view.graph.degree < 60
    places = [i for i, advert in enumerate(view.adverts) if advert.identity == twin.identity]
    near = [set(view.ring.neighbours(place)) | {place} for place in places]
    apart = [i for i in range(1, 60) if not near[0] & near[1] & {view.index[adverts[i].identity]}]
    assert len(apart) > 10
    for i in (apart[0], apart[-1]):
        refused(devices[i], view.roster(adverts[i].identity), "the same identity twice")
    # Under another name, to whoever is beside it.
    place = view.hashes.index(twin.hash(session.context))
    view.entries[place] = view.hashes[place] + bytes(16)
    view.root = digest("roster", session.context, b"", *view.entries)
    view.ring = Ring(view.root, b"", view.hashes, view.graph.degree)
    view.committee = view.ring.committee(len(view.committee))
    beside = [adverts[i] for i in range(1, 60) if devices[i].phase != "aborted"]
    delivered = 0
    for advert in beside:
        if place in view.ring.neighbours(view.index[advert.identity]):
            one = next(d for d in devices if d.identity.public == advert.identity)
            refused(one, view.roster(advert.identity), "an advert that is not a neighbour's")
            delivered += 1
    assert delivered > 10


def test_a_device_answers_only_what_the_committee_signed(small: Callable[..., Play]) -> None:
    play = small().run()
    device, delivered = before(play, "unmasking", "signatures")
    given = decode_kept(delivered, Signatures)
    near, committee = given.signatures[:8], list(given.signatures[8:])
    signed = [i for i, signature in enumerate(committee) if signature]
    assert len(signed) == 5  # no more than are checked
    fewer, forged, another = list(committee), list(committee), list(committee)
    fewer[signed[0]] = b""
    forged[signed[0]] = bytes(64)
    another[signed[0]] = committee[signed[1]]
    for changed, match in (
        (fewer, "4 members of the committee that signed"),
        (forged, "a forged signature"),
        (another, "a forged signature"),
        (committee[:-1], "signatures of another number"),
        ([], "signatures of another number"),
    ):
        device, _ = before(play, "unmasking", "signatures")
        refused(device, Signatures(given.root, given.survivors, (*near, *changed)), match)
    device, _ = before(play, "unmasking", "signatures")
    assert device.receive(delivered) == play.sent[0, "signatures"]


def test_a_transcript_without_the_committees_signatures_is_not_believed(small: Callable[..., Play]) -> None:
    play = small().run()
    result = play.server.result
    assert result is not None
    verify(result.transcript, result.sum)
    lost = set(play.server._state.committee[:3])
    kept = tuple(pair for pair in result.transcript.signatures if pair[0] not in lost)
    with pytest.raises(SecureSumError, match="4 members of the committee that signed"):
        verify(msgspec.structs.replace(result.transcript, signatures=kept))


def test_a_server_that_is_started_again_asks_the_same_committee(small: Callable[..., Play]) -> None:
    play = small().run()
    again = Server(play.session, play.logs["server"])
    assert again._state.committee == play.server._state.committee
    assert again.result is not None
    assert play.server.result is not None
    assert again.result.transcript == play.server.result.transcript
