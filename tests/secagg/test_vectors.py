"""Published vectors: the package and the reference both make the good ones, and the package refuses the bad ones."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairyring.core import errors
from fairyring.core.packing import pack_words, unpack_words
from fairyring.secagg import Device, Identity, MemoryLog, Server, Session, Terms, verify
from fairyring.secagg._steps import Keys
from fairyring.secagg._suite import KeyPair, derive, digest, low_order, pair_mask, self_mask
from fairyring.secagg.history import attest, linked
from fairyring.secagg.keystream import apply_masks, random_bytes, word_of
from fairyring.secagg.messages import Advertise, MaskedInput, encode
from fairyring.secagg.shamir import reconstruct, share
from tests.secagg import reference

VECTORS = Path(__file__).parents[1] / "vectors"
ASKS = {"roster": "shares", "mailbox": "masked_input", "survivors": "consistency", "signatures": "unmask"}
NEEDS = {"shares": "roster", "masked_input": "mailbox", "consistency": "survivors", "unmask": "signatures"}
DISPUTED = {
    "roster": "shares",
    "mailbox": "complaint",
    "accusation": "disclosure",
    "settlement": "masked_input",
    "survivors": "consistency",
    "signatures": "unmask",
}


def load(name: str, part: str) -> list[dict[str, Any]]:
    return json.loads((VECTORS / f"secagg_{name}.json").read_text("utf-8"))[part]


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


@cache
def sessions() -> list[dict[str, Any]]:
    return load("sessions", "sessions")


def terms_of(case: dict[str, Any]) -> Terms:
    return Terms(
        raw(case["plan"]),
        case["length"],
        case["modulus_bits"],
        case["fewest"],
        case["most"],
        case["threat"],
        case["adversarial_rate"],
        case["dropout_rate"],
    )


def session_of(case: dict[str, Any]) -> Session:
    return Session(terms_of(case), case["round"], raw(case["model"]), raw(case.get("previous", "")) or None)


class Machines:
    """The package's machines on a session's inputs, fed by hand."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.session = session_of(case)
        self.server = Server(self.session, MemoryLog())
        self.devices = []
        for device in case["devices"]:
            secret = raw(device["root_secret"])
            self.devices.append(
                Device(
                    self.session,
                    Identity(raw(device["identity"])),
                    MemoryLog(),
                    entropy=lambda size, secret=secret: secret[:size],
                )
            )
        self.statement: list[dict[str, bytes]] = [{} for _ in self.devices]
        self.received: list[dict[str, bytes]] = [{} for _ in self.devices]

    def say(self, number: int, kind: str) -> bytes:
        """Have a device make a message of a kind."""
        device = self.devices[number]
        if kind == "advertise":
            answer = device.start()
        elif kind == "masked_input":
            device.receive(self.received[number]["mailbox"])
            word = word_of(self.case["modulus_bits"])
            answer = device.contribute(np.array(self.case["devices"][number]["vector"], word))
        else:
            answer = device.receive(self.received[number][NEEDS[kind]]) or b""
        self.statement[number][kind] = answer
        return answer

    def all_say(self, kind: str, but: int | None = None) -> None:
        for number in range(len(self.devices)):
            if number != but and (kind == "advertise" or NEEDS[kind] in self.received[number]):
                self.server.receive(self.say(number, kind))

    def close(self, kind: str) -> None:
        """End the server's phase, and note what it announces."""
        beacon = raw(self.case["beacon"]) if kind == "roster" else b""
        numbers = {device.identity.public: i for i, device in enumerate(self.devices)}
        for to, data in self.server.close(beacon):
            self.received[numbers[to]][kind] = data

    def until(self, event: str) -> None:
        """Go on until `event`, a message's name, would come next."""
        if event == "advertise":
            return
        self.all_say("advertise")
        for kind, answer in ASKS.items():
            self.close(kind)
            if kind == "mailbox" and event not in ("mailbox", "mailbox end"):
                list(self.server.close())  # nobody complains
            if event in (kind, answer, f"{kind} end"):
                return
            silent = self.case["silent"] if answer == "masked_input" else None
            self.all_say(answer, but=silent)


@pytest.mark.parametrize("number", range(4))
def test_the_machines_say_every_byte_of_the_sessions(number: int) -> None:
    case, out = sessions()[number]["in"], sessions()[number]["out"]
    machines = Machines(case)
    machines.until("the end")
    list(machines.server.close())
    assert [{k: v.hex() for k, v in statement.items()} for statement in machines.statement] == out["said"]
    assert [{k: v.hex() for k, v in received.items()} for received in machines.received] == out["heard"]
    result = machines.server.result
    assert result is not None
    assert result.sum.tolist() == out["sum"]
    assert result.transcript.result.hex() == out["result"]
    assert machines.session.check.tolist() == out["check"]
    assert machines.server._state.graph.threshold == out["threshold"]
    verify(result.transcript, result.sum)


@pytest.mark.parametrize("number", range(4))
def test_the_reference_says_every_byte_of_the_sessions(number: int) -> None:
    assert reference.session(sessions()[number]["in"]) == sessions()[number]["out"]


@pytest.mark.parametrize("number", range(2))
def test_both_say_every_byte_of_the_disputes(number: int) -> None:
    row = load("disputes", "sessions")[number]
    case, out = row["in"], row["out"]
    assert reference.session(case) == out
    dispute = case["dispute"]
    bad = {i for i, _ in (*dispute["garbage"], *dispute["liars"])}  # whose words are not a machine's
    machines = Machines(case)
    statement = [{kind: raw(data) for kind, data in one.items()} for one in out["said"]]
    received = [{kind: raw(data) for kind, data in one.items()} for one in out["heard"]]
    for i, device in enumerate(machines.devices):
        assert device.start() == statement[i]["advertise"]
        machines.server.receive(statement[i]["advertise"])
    delivered: list[dict[str, bytes]] = [{} for _ in machines.devices]
    numbers = {device.identity.public: i for i, device in enumerate(machines.devices)}
    for kind, answer in DISPUTED.items():
        for to, data in machines.server.close(raw(case["beacon"]) if kind == "roster" else b""):
            delivered[numbers[to]][kind] = data
        for i, device in enumerate(machines.devices):
            given = None
            if kind in delivered[i] and i not in bad:
                given = device.receive(delivered[i][kind])
            if answer == "masked_input" and answer in statement[i] and i not in bad:
                word = word_of(case["modulus_bits"])
                given = device.contribute(np.array(case["devices"][i]["vector"], word))
            if i not in bad:
                assert given == statement[i].get(answer)
            if answer in statement[i]:
                machines.server.receive(statement[i][answer])
    list(machines.server.close())
    assert delivered == received
    assert {numbers[one] for one in machines.server.barred} == {1}
    result = machines.server.result
    assert result is not None
    assert result.sum.tolist() == out["sum"]
    assert result.transcript.result.hex() == out["result"]
    verify(result.transcript, result.sum)


@pytest.mark.parametrize("row", load("keys", "keys"), ids=lambda row: str(row["sender"]))
def test_both_derive_the_keys(row: dict[str, Any]) -> None:
    private, root, context = raw(row["private"]), raw(row["root"]), raw(row["context"])
    agreed = KeyPair(private).agree(raw(row["other_public"]))
    ends = [row[end].to_bytes(8, "little") for end in ("sender", "receiver")]
    keys = Keys.of(private)
    ours = {
        "agreed": agreed,
        "pair_mask": pair_mask(agreed, root, context, row["receiver"], row["sender"]),
        "self_mask": self_mask(private, root, context),
        "envelope": derive(agreed, root, b"envelope", context, *ends),
        "commitment": digest("commitment", private),
        "root_of": digest("roster", context, bytes(row["sender"]), root, private),
        "masking_key": keys.masking_secret,
        "seed": keys.seed,
        "nonce": keys.nonce,
    }
    agreed = reference.agree(private, raw(row["other_public"]))
    theirs = {
        "agreed": agreed,
        "pair_mask": reference.derive(agreed, root, b"mask", context, *ends),
        "self_mask": reference.derive(private, root, b"self", context),
        "envelope": reference.derive(agreed, root, b"envelope", context, *ends),
        "commitment": reference.digest("commitment", private),
        "root_of": reference.digest("roster", context, bytes(row["sender"]), root, private),
        "masking_key": reference.derive(private, b"", b"masking"),
        "seed": reference.derive(private, b"", b"seed"),
        "nonce": reference.derive(private, b"", b"nonce"),
    }
    assert {name: value.hex() for name, value in ours.items()} == {name: row[name] for name in ours}
    assert {name: value.hex() for name, value in theirs.items()} == {name: row[name] for name in theirs}
    assert keys.encryption.public == reference.public_of(raw(row["encryption_key"]))
    secrets = [value for name, value in ours.items() if name not in ("agreed", "commitment", "root_of")]
    assert len(set(secrets)) == len(secrets)


@pytest.mark.parametrize("row", load("keys", "contexts"), ids=lambda row: str(row["length"]))
def test_both_derive_the_context_and_the_check_numbers(row: dict[str, Any]) -> None:
    session = session_of(row)
    assert session.context.hex() == reference.context_of(row).hex() == row["context"]
    theirs = reference.mask(
        reference.digest("check", raw(row["context"])), len(row["check"]), row["modulus_bits"]
    )
    assert session.check.tolist() == theirs == row["check"]


@pytest.mark.parametrize("row", load("history", "histories"), ids=lambda row: str(len(row["links"])))
def test_both_follow_a_history(row: dict[str, Any]) -> None:
    session, head, heads = session_of(row["session"]), raw(row["run"]), []
    for kind, *parts in row["links"]:
        head = linked(head, kind, *map(raw, parts))
        heads.append(head.hex())
    assert session.context.hex() == reference.context_of(row["session"]).hex() == row["context"]
    assert [*heads, row["payload"]] == reference.history_of(row) == [*row["heads"], row["payload"]]
    signer = Identity(raw(row["identity"]))
    signed = attest(session, head, {7: signer})
    assert signed == ((7, raw(row["signature"])),)
    assert reference.sign(raw(row["identity"]), raw(row["payload"])).hex() == row["signature"]


@pytest.mark.parametrize("public", json.loads((VECTORS / "secagg_keys.json").read_text("utf-8"))["low_order"])
def test_no_agreement_is_made_with_a_key_of_low_order(public: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        KeyPair(b"\1" * 32).agree(raw(public))
    assert low_order(raw(public))
    assert low_order(raw(public)[:-1] + bytes([raw(public)[-1] ^ 0x80]))
    assert not low_order(KeyPair(b"\1" * 32).public)


@pytest.mark.parametrize(
    "row", load("masks", "masks"), ids=lambda r: f"{r['modulus_bits']}x{len(r['vector'])}"
)
def test_both_mask_the_same(row: dict[str, Any]) -> None:
    bits, keys = row["modulus_bits"], [raw(key) for key in row["keys"]]
    word = word_of(bits)
    masked = np.array(row["vector"], word)
    apply_masks(masked, list(zip(keys, row["signs"], strict=True)))
    masked &= word((1 << bits) - 1)
    assert masked.tolist() == row["masked"]
    assert pack_words(masked, bits).hex() == row["packed"]
    assert unpack_words(raw(row["packed"]), bits, len(masked), word).tolist() == row["masked"]
    assert random_bytes(keys[0], 64).hex() == row["keystream"]

    theirs = row["vector"]
    for key, sign in zip(keys, row["signs"], strict=True):
        noise = reference.mask(key, len(theirs), bits)
        theirs = [(a + sign * b) % 2**bits for a, b in zip(theirs, noise, strict=True)]
    assert theirs == row["masked"]
    assert reference.bits_of(theirs, bits).hex() == row["packed"]
    assert reference.keystream(keys[0], 64).hex() == row["keystream"]


@pytest.mark.parametrize("row", load("shares", "shares"), ids=lambda row: str(row["threshold"]))
def test_both_share_the_same(row: dict[str, Any]) -> None:
    arguments = raw(row["secret"]), row["places"], row["threshold"], raw(row["randomness"])
    assert [one.hex() for one in share(*arguments)] == row["shares"]
    assert [one.hex() for one in reference.shares(*arguments)] == row["shares"]
    last = dict(list(zip(row["places"], map(raw, row["shares"]), strict=True))[-row["threshold"] :])
    assert reconstruct(last) == raw(row["secret"])
    assert reference.interpolate(last) == int.from_bytes(raw(row["secret"]), "little")


@pytest.mark.parametrize("row", load("shares", "bad"), ids=lambda row: row["name"])
def test_no_secret_comes_of_bad_shares(row: dict[str, Any]) -> None:
    assert reconstruct({int(place): raw(value) for place, value in row["shares"].items()}) is None


BAD = load("bad_messages", "messages")


@pytest.mark.parametrize("row", BAD, ids=lambda row: f"{row['session']}-{row['name']}")
def test_a_bad_message_is_refused(row: dict[str, Any]) -> None:
    machines = Machines(sessions()[row["session"]]["in"])
    machines.until(row["before"])
    data = raw(row["data"]) + bytes(row["pad"])
    if row["party"] == "server":
        party: Any = machines.server
        records = len(party._log)
    else:
        party = machines.devices[row["party"]]
        if row["before"] == "mailbox":
            assert party.phase == "shared"
        records = len(party._log)
    if row["error"] == "complaint":
        # An honest server passed on no such entry. It refuses the complaint, and the device gives nothing.
        with pytest.raises(errors.MessageRefused, match="was not given"):
            machines.server.receive(party.receive(data))
        with pytest.raises(errors.MessageRefused, match="expected settlement"):
            party.contribute(np.zeros(terms_of(machines.case).length, np.uint16))
        return
    with pytest.raises(errors.SecureSumError) as caught:
        party.receive(data)
    assert type(caught.value).__name__ == row["error"]
    if row["error"] == "MessageRefused":
        # Nothing was taken in, and the honest message is taken after it.
        assert len(party._log) == records
        if row["party"] == "server" and row["before"] in [*ASKS.values(), "advertise"]:
            party.receive(machines.say(0, row["before"]))
        elif row["party"] != "server":
            party.receive(machines.received[row["party"]][row["before"]])
    else:
        assert party.phase == "aborted"
        with pytest.raises(errors.SessionAborted):
            party.receive(machines.received[row["party"]][row["before"]])


def test_there_are_bad_messages_of_every_kind_and_of_every_error() -> None:
    assert len(BAD) > 300
    assert {row["error"] for row in BAD} == {"MessageRefused", "SessionAborted", "complaint"}
    assert {row["before"] for row in BAD} >= {"advertise", *ASKS, *ASKS.values()}


def test_messages_are_in_the_form_of_the_reference() -> None:
    advert = Advertise(*[bytes([i]) * 32 for i in range(5)], b"s" * 64)
    fields = [getattr(advert, name) for name in advert.__struct_fields__]
    assert encode(advert) == reference.pack(["advertise", *fields])
    for sender in (0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1):
        for size in (0, 255, 256, 65535, 65536):
            message = MaskedInput(bytes(32), sender, bytes(size), bytes(64))
            assert encode(message) == reference.pack(
                ["masked_input", bytes(32), sender, bytes(size), bytes(64)]
            )
