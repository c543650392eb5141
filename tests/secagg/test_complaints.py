"""Shares that do not open: who is complained of makes up for it or is barred, and everyone else stays."""

import random
from typing import Any

import msgspec
import pytest

from fairyring.core.errors import MessageRefused, RunError, SessionAborted
from fairyring.secagg import Device, MemoryLog, Record, Server, verify
from fairyring.secagg._suite import bitmap
from fairyring.secagg.messages import (
    PAIR_BYTES,
    Accusation,
    Complaint,
    Disclosure,
    Mailbox,
    Settlement,
    decode_kept,
    disclosure_payload,
    encode,
)
from tests.secagg.driving import StoppingLog, identity, small_terms, vectors_of
from tests.secagg.spoiling import NO_SHARES, Spoiled, signed, spoiled


def ended(play: Spoiled, without: set[int]) -> None:
    """The session ended in the sum of all devices but those, none of whom had to leave."""
    result = play.server.result
    assert result is not None
    assert set(play.survivors) == set(play.devices) - without
    assert result.sum.tolist() == play.plain()
    assert set(play.left) <= without
    verify(result.transcript, result.sum)


def barred(play: Spoiled) -> set[int]:
    return {play.number[one] for one in play.server.barred}


# -- who seals garbage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("devices", "threat"), [(20, "semi_honest"), (100, "semi_malicious")])
def test_one_device_that_seals_garbage_is_barred_and_all_others_stay(devices: int, threat: str) -> None:
    play = spoiled(devices, {7: None}, threat=threat)
    play.run()
    assert barred(play) == {7}
    ended(play, {7})
    # Who has no part in it gets and sends no message more.
    concerned = set(play.near(7))
    assert len(concerned) == (19 if devices == 20 else 44)
    assert {i for i, phase in play.delivered if phase == "masking"} == concerned
    assert {i for i, phase in play.delivered if phase == "disclosing"} == {7}
    assert {i for i, event in play.sent if event == "mailbox"} == concerned


@pytest.mark.parametrize("opens", [False, True])
def test_garbage_for_one_neighbour_is_enough_to_be_barred_whatever_it_opens_to(opens: bool) -> None:
    play = spoiled(20, {7: {3}}, opens=opens)
    play.run()
    assert barred(play) == {7}
    assert {i for i, event in play.sent if event == "mailbox"} == {3}
    ended(play, {7})


@pytest.mark.parametrize("victims", [2, 16, 17])
def test_garbage_for_as_many_as_leave_a_threshold_or_do_not(victims: int) -> None:
    play = spoiled(20, {0: set(range(1, 1 + victims))})
    assert play.session.terms.graph(20).threshold == 3
    play.run()
    ended(play, {0})


@pytest.mark.parametrize(("devices", "threat"), [(20, "semi_malicious"), (64, "semi_honest")])
def test_as_many_as_may_be_adversaries_seal_garbage_for_a_few_each(devices: int, threat: str) -> None:
    dice = random.Random(devices)
    bad = set(range(0, devices, 10))
    play = spoiled(
        devices, {i: set(dice.sample(range(devices), devices // 4)) - bad for i in bad}, threat=threat
    )
    play.run()
    assert barred(play) == {i for i in bad if set(play.near(i)).intersection(play.garbage[i] or ())}
    ended(play, barred(play))


def test_a_device_that_discloses_after_all_stays_and_is_in_the_sum() -> None:
    play = spoiled(20, {7: None}, sorry={7}, threat="semi_malicious")
    play.run()
    assert barred(play) == set()
    ended(play, set())


def test_what_was_disclosed_brings_the_secrets_of_a_device_back_that_then_vanishes() -> None:
    play = spoiled(20, {7: None}, sorry={7}, vanish={7: "vector"})
    play.run()
    ended(play, {7})


def test_where_nobody_complains_no_message_more_is_sent() -> None:
    play = spoiled(4)
    play.run()
    assert {phase for _, phase in play.delivered} == {"sharing", "opening", "confirming", "unmasking"}
    assert {event for _, event in play.sent} == {"start", "roster", "vector", "survivors", "signatures"}
    ended(play, set())


# -- who complains without a reason -----------------------------------------------------------------------------


@pytest.mark.parametrize("threat", ["semi_honest", "semi_malicious"])
def test_devices_that_complain_of_everyone_drive_nobody_out(threat: str) -> None:
    everyone = set(range(20))
    play = spoiled(20, liars={2: everyone - {2}, 9: everyone - {9}}, threat=threat)
    play.run()
    assert barred(play) == set()
    ended(play, set())


def test_liars_and_garbage_sealers_together() -> None:
    everyone = set(range(24))
    play = spoiled(24, {1: None, 5: {2, 3}}, liars={2: everyone - {2}, 9: {5, 10, 11}}, sorry={5})
    play.run()
    assert barred(play) == {1}
    # Liars took no notice of the settlement: their input is under masks with a barred device, and is refused.
    ended(play, {1, 2, 9})


def test_a_device_that_hears_of_as_many_complaints_as_the_threshold_gives_nothing() -> None:
    # More than can be adversaries: here the terms no longer hold, and a secret would come of the answer.
    everyone = set(range(20))
    play = spoiled(20, liars={i: everyone - {i} for i in (2, 9, 11)})
    play.advertise()
    play.hand_out("roster")
    play.hand_out("mailbox")
    play.hand_out("accusation")
    assert set(play.left) == everyone - {2, 9, 11}
    assert {i for i, event in play.sent if event == "accusation"} == {2, 9, 11}  # of each, by the two others
    assert "3 complaints" in str(play.left[0])


# -- what the server refuses ------------------------------------------------------------------------------------


def opening(devices: int = 20, garbage: Any = None, **named: Any) -> Spoiled:
    """A session whose mailboxes are out."""
    play = spoiled(devices, garbage, **named)
    play.advertise()
    play.hand_out("roster")
    play.hand_out("mailbox")
    return play


def test_a_complaint_is_of_what_its_sender_was_given() -> None:
    play = opening(garbage={7: {3}}, vanish={5: "roster"})
    mailbox = decode_kept(play.delivered[4, "opening"], Mailbox)
    place = play.near(4).index(6)
    tampered = list(mailbox.sealed)
    tampered[place] = bytes(82)
    honest = decode_kept(play.complaint(4, {6}, encode(mailbox)), Complaint)
    others = decode_kept(play.complaint(3, {6}, play.delivered[3, "opening"]), Complaint)
    context = play.session.context
    bad = [
        play.complaint(4, {6}, encode(msgspec.structs.replace(mailbox, sealed=tuple(tampered)))),
        play.complaint(4, {5}, encode(mailbox)),  # of one that sent no shares
        play.complaint(4, set(), encode(mailbox)),
        encode(signed(msgspec.structs.replace(honest, complaints=honest.complaints[:-1]), 4, context)),
        encode(signed(msgspec.structs.replace(honest, complaints=others.complaints), 4, context)),
        encode(msgspec.structs.replace(honest, signature=bytes(64))),
    ]
    for data in bad:
        with pytest.raises(MessageRefused):
            play.server.receive(data)
    assert play.server.receive(encode(honest)) == []
    # By one that sent no shares, and was given none, though it knew what it would have been.
    sealed = tuple(play.server._state.entry(play.index(5), play.index(i)) for i in play.near(5))
    with pytest.raises(MessageRefused, match="was not given"):
        play.server.receive(play.complaint(5, {6}, encode(Mailbox(play.server._state.root, sealed))))
    play.hand_out("accusation")
    with pytest.raises(MessageRefused):
        play.server.receive(play.complaint(8, {6}, play.delivered[8, "opening"]))


def test_a_device_that_complains_of_two_things_complains_of_none() -> None:
    play = opening(garbage={7: {3}, 8: {3}})
    mailbox = play.delivered[3, "opening"]
    before = play.complaint(3, {7}, mailbox)
    with pytest.raises(MessageRefused, match="another Complaint than before"):
        play.server.receive(before)
    assert list(play.server.close()) == []
    assert play.server.phase == "masking"


def test_a_disclosure_is_of_what_was_complained_of() -> None:
    play = opening(garbage={7: {3, 4}}, sorry={7})
    announced = dict(play._close())
    assert list(announced) == [identity(7).public]
    right = decode_kept(play.amends(7), Disclosure)
    context, root = play.session.context, play.server._state.root
    places = [play.near(7).index(i) for i in (3, 4)]

    def with_entry(place: int, entry: bytes) -> bytes:
        entries = [*right.disclosed[:place], entry, *right.disclosed[place + 1 :]]
        return encode(signed(msgspec.structs.replace(right, disclosed=tuple(entries)), 7, context))

    first = right.disclosed[places[0]]
    not_asked = next(place for place, entry in enumerate(right.disclosed) if not entry)
    payload = disclosure_payload(context, root, play.index(7), play.index(3), NO_SHARES)
    bad = [
        with_entry(places[0], b""),
        with_entry(places[0], first[:-1]),
        with_entry(places[0], right.disclosed[places[1]]),
        with_entry(places[0], NO_SHARES + identity(7).sign(payload)),
        with_entry(not_asked, first),
        encode(signed(msgspec.structs.replace(right, disclosed=right.disclosed[:-1]), 7, context)),
        encode(signed(msgspec.structs.replace(right, sender=play.index(8)), 8, context)),
    ]
    for data in bad:
        with pytest.raises(MessageRefused):
            play.server.receive(data)
    assert play.server.waiting_for == 1
    play.server.receive(encode(right))
    assert play.server.waiting_for == 0
    for data in bad[:1]:  # another one after the first: neither counts
        with pytest.raises(MessageRefused, match="another"):
            play.server.receive(data)
    play.hand_out("settlement")
    assert barred(play) == {7}


def test_the_input_of_a_device_that_was_not_told_who_is_barred_is_refused() -> None:
    play = opening(garbage={7: {3}})
    play.hand_out("accusation")
    delivered = dict(play._close())
    device = play.devices[4]
    early = device.contribute(play.vectors[4])
    with pytest.raises(MessageRefused, match="masks with a barred device"):
        play.server.receive(early)
    with pytest.raises(MessageRefused):  # it says the same for ever
        device.receive(delivered[identity(4).public])
    for i in set(play.devices) - {4, 7}:
        play.devices[i].receive(delivered[identity(i).public])
        play.server.receive(play.devices[i].contribute(play.vectors[i]))
    assert 7 in play.left
    play.deliver("survivors")
    assert set(play.survivors) == set(play.devices) - {4, 7}


def test_a_device_that_comes_late_still_gets_its_mailbox_and_what_was_settled() -> None:
    play = opening(garbage={7: {3}})
    assert play.server.receive(play.sent[4, "roster"]) == [(identity(4).public, play.delivered[4, "opening"])]
    play.hand_out("accusation")
    assert play.server.receive(play.sent[4, "roster"]) == [(identity(4).public, play.delivered[4, "opening"])]
    play.hand_out("settlement")
    both = [(identity(4).public, play.delivered[4, phase]) for phase in ("opening", "masking")]
    assert play.server.receive(play.sent[4, "roster"]) == both
    assert play.server.receive(play.sent[3, "mailbox"]) == [
        (identity(3).public, play.delivered[3, "masking"])
    ]


def test_a_session_with_too_few_left_ends_before_any_input() -> None:
    play = spoiled(3, {0: None})
    with pytest.raises(SessionAborted, match="2 devices whose shares opened"):
        play.run()
    assert "vector" not in {event for _, event in play.sent}


# -- a server that lies -----------------------------------------------------------------------------------------


def test_a_changed_entry_gets_a_complaint_and_its_sealer_gives_nothing() -> None:
    # What a server would do to collect an honest device's shares: spoil them on their way, and ask for them in clear.
    play = spoiled(20)
    play.advertise()
    play.hand_out("roster")
    root, sealer = play.server._state.root, play.devices[7]
    complaints = [b""] * 19
    for to, data in play._close():
        i = play.number[to]
        if i in play.near(7):
            sealed = list(decode_kept(data, Mailbox).sealed)
            sealed[play.near(i).index(7)] = bytes(82)
            answer = play.devices[i].receive(encode(Mailbox(root, tuple(sealed))))
            given = decode_kept(answer or b"", Complaint).complaints
            complaints[play.near(7).index(i)] = given[play.near(i).index(7)]
        else:
            sealer.receive(data)
    one = [signature if place == 4 else b"" for place, signature in enumerate(complaints)]
    with pytest.raises(SessionAborted, match="forged, or of shares this device did not seal"):
        sealer.receive(encode(Accusation(root, tuple(one))))
    assert sealer.phase == "aborted"
    assert sealer._memory.keys is None


def accused(by: int = 3, **named: Any) -> tuple[Spoiled, Accusation]:
    """A session in which device 7 has its mailbox, and a complaint that `by` signed of it though there was no reason."""
    play = opening(**named)
    complaint = decode_kept(play.complaint(by, {7}, play.delivered[by, "opening"]), Complaint)
    entries = [b""] * 19
    entries[play.near(7).index(by)] = complaint.complaints[play.near(by).index(7)]
    return play, Accusation(play.server._state.root, tuple(entries))


def moved(entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (*entries[1:], entries[0])


ACCUSATIONS = {
    "by another than who signed": lambda a: msgspec.structs.replace(a, complaints=moved(a.complaints)),
    "by nobody": lambda a: msgspec.structs.replace(a, complaints=(b"",) * 19),
    "of another number": lambda a: msgspec.structs.replace(a, complaints=a.complaints[:-1]),
    "of another roster": lambda a: msgspec.structs.replace(a, root=bytes(32)),
    "forged": lambda a: msgspec.structs.replace(
        a, complaints=tuple(bytes(64) if entry else b"" for entry in a.complaints)
    ),
}


@pytest.mark.parametrize("name", ACCUSATIONS)
def test_a_device_answers_no_accusation_that_its_neighbour_did_not_sign(name: str) -> None:
    play, accusation = accused()
    with pytest.raises(SessionAborted):
        play.devices[7].receive(encode(ACCUSATIONS[name](accusation)))
    assert play.devices[7].phase == "aborted"


def test_a_complaint_of_one_device_or_session_is_none_of_another() -> None:
    play, accusation = accused()
    entries = [b""] * 19
    entries[play.near(8).index(3)] = next(entry for entry in accusation.complaints if entry)
    with pytest.raises(SessionAborted, match="forged"):  # of 7, shown to 8
        play.devices[8].receive(encode(Accusation(play.server._state.root, tuple(entries))))
    other, _ = accused(seed=1)
    later = msgspec.structs.replace(accusation, root=other.server._state.root)
    with pytest.raises(SessionAborted, match="forged"):
        other.devices[7].receive(encode(later))


def test_a_device_answers_one_accusation_and_before_its_input() -> None:
    play, accusation = accused()
    device = play.devices[7]
    answer = device.receive(encode(accusation))
    assert answer is not None
    assert device.receive(encode(accusation)) == answer
    other = decode_kept(play.complaint(5, {7}, play.delivered[5, "opening"]), Complaint)
    entries = list(accusation.complaints)
    entries[play.near(7).index(5)] = other.complaints[play.near(5).index(7)]
    more = encode(Accusation(play.server._state.root, tuple(entries)))
    with pytest.raises(MessageRefused, match="than before"):
        device.receive(more)
    given = decode_kept(answer, Disclosure).disclosed
    assert [bool(entry) for entry in given] == [i == 3 for i in play.near(7)]
    late = play.devices[8]
    late.contribute(play.vectors[8])
    with pytest.raises(MessageRefused):
        late.receive(more)


def test_what_is_disclosed_is_what_the_complainer_held_already() -> None:
    play, accusation = accused()
    held = play.devices[3]._memory.held[play.near(3).index(7)]
    given = decode_kept(play.devices[7].receive(encode(accusation)) or b"", Disclosure).disclosed
    assert given[play.near(7).index(3)][:PAIR_BYTES] == b"".join(held)


def settled() -> tuple[Spoiled, Settlement]:
    """A session in which device 3 waits for 7 to be settled, and what it will be told."""
    play = opening(garbage={7: {3}, 8: {3}}, sorry={7})
    play.hand_out("accusation")
    delivered = dict(play._close())
    return play, decode_kept(delivered[identity(3).public], Settlement)


def no_shares(settlement: Settlement, play: Spoiled) -> tuple[bytes, ...]:
    """What device 7 signed, though nothing can be made of it."""
    ends = play.server._state.root, play.index(7), play.index(3)
    signature = identity(7).sign(disclosure_payload(play.session.context, *ends, NO_SHARES))
    return tuple(entry and NO_SHARES + signature for entry in settlement.disclosed)


def bits(play: Spoiled, *numbers: int) -> bytes:
    return bitmap([play.near(3).index(i) for i in numbers], 19)


SETTLEMENTS = {
    "of another roster": lambda s, p: {"root": bytes(32)},
    "of another size": lambda s, p: {"disclosed": s.disclosed[:-1]},
    "a malformed set": lambda s, p: {"barred": s.barred + b"\0"},
    "nothing of a complaint": lambda s, p: {"barred": bits(p)},
    "nothing disclosed": lambda s, p: {"disclosed": (b"",) * 19},
    "another's shares": lambda s, p: {"disclosed": moved(s.disclosed)},
    "a bit of them changed": lambda s, p: {
        "disclosed": tuple(entry and bytes([entry[0] ^ 1]) + entry[1:] for entry in s.disclosed)
    },
    "signed, and no shares": lambda s, p: {"disclosed": no_shares(s, p)},
    "shares of the barred": lambda s, p: {"barred": bits(p, 7, 8)},
    "nearly everyone barred": lambda s, p: {"barred": bits(p, 8, *[i for i in p.near(3) if i not in (7, 9)])},
}


@pytest.mark.parametrize("name", SETTLEMENTS)
def test_a_device_leaves_that_is_told_of_a_settlement_that_is_none(name: str) -> None:
    play, settlement = settled()
    with pytest.raises(SessionAborted):
        play.devices[3].receive(
            encode(msgspec.structs.replace(settlement, **SETTLEMENTS[name](settlement, play)))
        )
    assert play.devices[3].phase == "aborted"


def test_the_right_settlement_is_taken_once_and_no_input_before_it() -> None:
    play, settlement = settled()
    device = play.devices[3]
    with pytest.raises(MessageRefused, match="expected settlement"):
        device.contribute(play.vectors[3])
    for _ in range(2):
        assert device.receive(encode(settlement)) is None
    with pytest.raises(MessageRefused, match="than before"):
        device.receive(encode(msgspec.structs.replace(settlement, barred=bits(play, 8, 9))))
    held = {play.near(3)[place] for place in device._memory.held}
    assert held == set(play.near(3)) - {8}
    assert play.server.receive(device.contribute(play.vectors[3])) == []


def test_a_settlement_where_nothing_was_open_or_of_one_that_never_shared_is_refused() -> None:
    play = opening(vanish={5: "roster"})
    empty = Settlement(play.server._state.root, bits(play), (b"",) * 19)
    with pytest.raises(SessionAborted, match="of nothing"):
        play.devices[3].receive(encode(empty))
    never = msgspec.structs.replace(empty, barred=bitmap([play.near(4).index(5)], 19))
    with pytest.raises(SessionAborted, match="never shared"):
        play.devices[4].receive(encode(never))


# -- processes that end -----------------------------------------------------------------------------------------


class Stops:
    """True at chosen appends, counted over all parties."""

    def __init__(self, *points: int) -> None:
        self.points, self.count = set(points), -1

    def __call__(self) -> bool:
        self.count += 1
        return self.count in self.points


def quarrel(seed: int, after: Any) -> Spoiled:
    """A small session of liars, of sealers of garbage who make up for it or do not, and of one that vanishes."""
    dice = random.Random(seed)
    devices = dice.choice((4, 5, 6))
    some = dice.sample(range(devices), 3)
    terms = small_terms(devices, threat=dice.choice(("semi_honest", "semi_malicious")), dropout=0.2)
    play = Spoiled(
        terms,
        vectors_of(devices, terms, seed),
        {some[0]: None if dice.random() < 0.5 else {some[1]}, some[1]: {some[2]}},
        opens=dice.random() < 0.3,
        sorry={some[1]},
        liars={some[2]: {some[0], some[1]}} if dice.random() < 0.5 else {},
        vanish={some[1]: "vector"} if dice.random() < 0.3 else {},
        seed=seed,
        log=lambda party: StoppingLog([], after),
    )
    try:
        play.run()
    except SessionAborted:
        assert play.server.result is None
    else:
        assert play.server.result is not None
        assert play.server.result.sum.tolist() == play.plain()
    return play


def story(play: Spoiled) -> Any:
    return (
        play.sent,
        play.delivered,
        {party: list(log) for party, log in play.logs.items()},
        play.server.barred,
    )


@pytest.mark.parametrize("seed", range(6))
def test_processes_that_end_while_complaints_are_settled_change_nothing(seed: int) -> None:
    calm = quarrel(seed, Stops())
    assert any(phase == "disclosing" for _, phase in calm.delivered)
    appends = sum(len(log) for log in calm.logs.values())
    for first in range(4):
        again = quarrel(seed, Stops(*range(first, appends, 4)))
        assert again.restarts > 0
        assert story(again) == story(calm)
    every = quarrel(seed, lambda: True)
    assert every.restarts == appends
    assert story(every) == story(calm)


@pytest.mark.parametrize("party", ["server", 2])
def test_a_log_of_complaints_that_was_changed_makes_no_other_sum(party: str | int) -> None:
    play = Spoiled(terms := small_terms(5, dropout=0.3), vectors_of(5, terms), {1: None, 0: {2}}, sorry={0})
    play.run()
    assert barred(play) == {1}
    records = list(play.logs[party])
    assert {"complaint", "disclosure"} <= {record.kind for record in records} or party == 2
    for at, record in enumerate(records):
        for changed in (
            [*records[:at], *records[at + 1 :]],
            [*records[: at + 1], *records[at:]],
            [*records[:at], Record(record.kind, record.data[:-1]), *records[at + 1 :]],
            [*records[:at], Record(record.kind, flipped(record.data)), *records[at + 1 :]],
        ):
            try:
                if party == "server":
                    server = Server(play.session, MemoryLog(changed))
                    assert server.result is None or server.result.sum.tolist() == play.plain()
                else:
                    device = Device(play.session, identity(2), MemoryLog(changed))
                    assert device.phase != "done" or device._answers == play.devices[2]._answers
            except RunError:
                continue


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 1 for byte in data[middle : middle + 1]) + data[middle + 1 :]


# -- who contributes before it is asked to ---------------------------------------------------------------------


class Hasty(Spoiled):
    """A session in which device 7 is honest, but gives its input as soon as it is ready."""

    def changed(self, i: int, event: str, answer: bytes | None) -> bytes | None:
        if (i, event) == (7, "mailbox"):
            assert self.devices[7].phase == "ready"
            self.early = self.devices[7].contribute(self.vectors[7])
            with pytest.raises(MessageRefused):
                self.server.receive(self.early)
        return super().changed(i, event, answer)

    def _device(self, i: int, event: str, act: Any) -> bytes | None:
        if (i, event) == (7, "accusation"):
            with pytest.raises(MessageRefused, match="accusation"):
                act(self.devices[7])
            return None
        return super()._device(i, event, act)


@pytest.mark.parametrize("complained", [False, True])
def test_an_input_before_it_is_asked_for_is_refused_and_one_complaint_then_bars_its_device(
    complained: bool,
) -> None:
    terms = small_terms(20, adversarial=0.1, dropout=0.1)
    play = Hasty(terms, vectors_of(20, terms), liars={2: {7}} if complained else {})
    play.advertise()
    play.deliver("roster")
    play.deliver("mailbox")
    assert play.server.phase == "masking"
    if complained:
        assert barred(play) == {7}
        with pytest.raises(MessageRefused):
            play.server.receive(play.early)
    else:  # the same bytes are taken once they are asked for
        play.server.receive(play.early)
        assert barred(play) == set()


@pytest.mark.parametrize(("sealers", "sums"), [({0}, True), ({0, 1, 2}, False)])
def test_barred_devices_count_as_vanished(sealers: set[int], sums: bool) -> None:
    # Three of ten may be adversaries and one may vanish: that is too few for adversaries who all have themselves barred.
    terms = small_terms(10, threat="semi_malicious", adversarial=0.3, dropout=0.1)
    play = Spoiled(terms, vectors_of(10, terms), dict.fromkeys(sealers))
    if sums:
        play.run()
        ended(play, sealers)
    else:
        with pytest.raises(SessionAborted):
            play.run()
        assert play.server.result is None
