"""An honest server and honest devices over a network that is not: what ends in a sum ends in the right one."""

import random
from collections import Counter

import pytest

from fairyring.core.errors import MessageRefused, SessionAborted
from fairyring.secagg import Enrolled, MemoryLog, Server, verify
from fairyring.secagg.messages import Advertise, Consistency, MaskedInput, Shares, Unmask, decode_kept, encode
from tests.secagg.driving import EVENTS, Play, identity, small_terms, vectors_of

RUNS, PARTS, QUICK = 1_000, 20, 100
FROM_DEVICE = Advertise | Shares | MaskedInput | Consistency | Unmask


class Noisy(Play):
    """A session whose messages are lost, repeated, reordered, damaged and sent by others on their way to the server."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        devices = self.dice.choice((3, 4, 5))
        terms = small_terms(devices, dropout=0.25 if devices > 3 else 0.0)
        vanish = {self.dice.randrange(devices): self.dice.choice(EVENTS)} if self.dice.random() < 0.3 else {}
        self.seen: Counter[str] = Counter()
        self.old: list[bytes] = []
        self.heat = self.dice.choice((0.0, 0.1, 0.4))
        super().__init__(terms, vectors_of(devices, terms, seed), vanish, seed=seed)

    def _try(self, data: bytes) -> None:
        try:
            self.server.receive(data)
            self.seen["accepted"] += 1
        except MessageRefused:
            self.seen["refused"] += 1

    def _give(self, data: bytes | None) -> None:
        dice = self.dice
        if data is None:
            return
        while dice.random() < self.heat:
            kind = dice.randrange(6)
            if kind == 0 and self.old:
                self._try(dice.choice(self.old))
            elif kind == 1:
                at = dice.randrange(len(data))
                self._try(data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :])
            elif kind == 2:
                self._try(data[: dice.randrange(len(data))])
            elif kind == 3:
                self._try(forged(data, dice))
            elif kind == 4 and dice.random() < 0.2:
                self.seen["lost"] += 1
                return
            else:
                self._try(dice.randbytes(dice.randrange(64)))
        self.old.append(data)
        for _ in range(1 + (dice.random() < self.heat)):
            self._try(data)
        if dice.random() < self.heat / 3:
            log = MemoryLog(list(self.logs["server"]))
            self.logs["server"], self.server = log, Server(self.session, log)


def forged(data: bytes, dice: random.Random) -> bytes:
    """The same message under a signature by another key, or in another's name."""
    message = decode_kept(data, FROM_DEVICE)
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    if "sender" in fields and dice.random() < 0.5:
        fields["sender"] = fields["sender"] ^ 1
    else:
        fields["signature"] = identity(70).sign(b"anything")
    return encode(type(message)(**fields))


def played(first: int, count: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in range(first, first + count):
        play = Noisy(seed)
        seen["runs"] += 1
        try:
            play.run()
        except SessionAborted as error:
            assert play.server.result is None, seed
            seen[f"ended {error.phase}"] += 1
        else:
            result = play.server.result
            assert result is not None
            assert result.sum.tolist() == play.plain(), seed
            assert result.count >= play.session.terms.minimum_cohort
            verify(result.transcript, result.sum)
            seen["sums"] += 1
        seen += play.seen
    phases = {"advertising", "sharing", "masking", "confirming", "unmasking"}
    assert {name for name in seen if name.startswith("ended")} <= {f"ended {phase}" for phase in phases}
    assert seen["runs"] == count
    assert seen["sums"] > count / 2
    assert seen["refused"] > count
    return seen


def test_a_few_noisy_sessions_end_in_the_right_sum_or_cleanly() -> None:
    played(500_000, QUICK)


@pytest.mark.slow
@pytest.mark.campaign(PARTS)
def test_noisy_sessions_end_in_the_right_sum_or_cleanly(part: int) -> None:
    played(part * RUNS // PARTS, RUNS // PARTS)


def test_a_device_that_contradicts_itself_is_left_out() -> None:
    terms = small_terms(4, dropout=0.25)
    play = Play(terms, vectors_of(4, terms))
    play.advertise()
    play.deliver("roster")
    play.deliver("mailbox")
    play.contribute()
    first = decode_kept(play.sent[0, "vector"], MaskedInput)
    other = MaskedInput(first.root, first.sender, bytes(len(first.vector)), bytes(64))
    signature = play.identities[0].sign(other.payload(play.session.context))
    second = encode(MaskedInput(other.root, other.sender, other.vector, signature))
    for data in (second, play.sent[0, "vector"], second):
        with pytest.raises(MessageRefused):
            play.server.receive(data)
    play.deliver("survivors")
    play.deliver("signatures")
    play._close()
    assert set(play.survivors) == {1, 2, 3}
    assert play.server.result is not None
    assert play.server.result.sum.tolist() == play.plain()


def test_a_device_that_is_not_enrolled_stays_outside() -> None:
    terms = small_terms(4)
    play = Play(terms, vectors_of(4, terms))
    server = Server(play.session, MemoryLog(), policy=Enrolled(identity(i).public for i in range(3)))
    for i in range(3):
        server.receive(play.devices[i].start())
    with pytest.raises(MessageRefused, match="may not take part"):
        server.receive(play.devices[3].start())


def test_one_device_more_than_the_most_stays_outside() -> None:
    terms = small_terms(3)
    play = Play(terms, vectors_of(4, terms))
    for i in range(3):
        play.server.receive(play.devices[i].start())
    with pytest.raises(MessageRefused, match="one device more"):
        play.server.receive(play.devices[3].start())


def test_a_device_that_gives_a_wrong_share_is_done_without_or_ends_the_session() -> None:
    terms = small_terms(5, dropout=0.4)
    threshold = terms.graph(5).threshold
    play = Play(terms, vectors_of(5, terms))
    play.advertise()
    for event in ("roster", "mailbox"):
        play.deliver(event)
    play.contribute()
    play.deliver("survivors")
    for to, data in play._close():
        i = play.number[to]
        answer = decode_kept(play.devices[i].receive(data) or b"", Unmask)
        if i == 2:
            shares = tuple(bytes([share[0] ^ 1]) + share[1:] for share in answer.shares)
            lie = Unmask(answer.root, answer.sender, shares, bytes(64))
            signature = play.identities[i].sign(lie.payload(play.session.context))
            answer = Unmask(lie.root, lie.sender, shares, signature)
        play.server.receive(encode(answer))
    assert threshold == 2
    play._close()
    assert play.server.result is not None
    assert play.server.result.sum.tolist() == play.plain()


def test_a_beacon_may_only_come_with_the_roster_and_is_short() -> None:
    terms = small_terms(3)
    play = Play(terms, vectors_of(3, terms))
    play.advertise()
    with pytest.raises(MessageRefused, match="a beacon"):
        play.server.close(bytes(65))
    list(play.server.close(b"from after the adverts"))
    with pytest.raises(MessageRefused, match="a beacon"):
        play.server.close(b"now")
