"""No secret in a representation, an error, a log line or a transcript."""

import base64
import logging
from typing import Any

import msgspec
import pytest

from fairyring.core.errors import SecureSumError
from fairyring.secagg import Device, FileLog, Identity, MemoryLog, Record
from fairyring.secagg._steps import Keys
from fairyring.secagg._suite import KeyPair, self_mask
from fairyring.secagg.messages import (
    Advertise,
    Mailbox,
    MaskedInput,
    Roster,
    Shares,
    Signatures,
    Unmask,
    decode_kept,
)
from tests.secagg.driving import Play, fixed, identity, root_secret, small_terms, vectors_of
from tests.secagg.hostile import Run


def secrets_of(number: int, seed: int) -> list[bytes]:
    """What of a device nobody else may know."""
    root = root_secret(number, seed)
    keys = Keys.of(root)
    return [root, keys.seed, keys.masking_secret, fixed("identity", number)]


def forms(secret: bytes) -> list[str]:
    """How a secret might be written, in whole or by its first half."""
    outcome = []
    for part in (secret, secret[:16], secret[16:]):
        outcome += [part.hex(), repr(part)[2:-1], str(list(part))[1:-1], str(int.from_bytes(part, "little"))]
        outcome += [str(int.from_bytes(part, "big")), base64.b64encode(part).decode().rstrip("=")[:-1]]
    return outcome


def leaks(text: str, secrets: list[bytes]) -> list[str]:
    return [form for secret in secrets for form in forms(secret) if form in text]


def everything(play: Play) -> list[Any]:
    """Every object of a session that somebody might print."""
    outcome: list[Any] = [
        play.server,
        play.session,
        play.session.terms,
        *play.identities,
        *play.logs.values(),
    ]
    for device in play.devices.values():
        outcome += [device, device.session, device.identity, device._memory]
        outcome += [Keys.of(root_secret(0)), Keys.of(root_secret(0)).encryption, device._memory.roll]
    kinds = Advertise | Shares | MaskedInput | Unmask
    outcome += [decode_kept(data, kinds) for (_, event), data in play.sent.items() if event != "survivors"]
    if play.server.result is not None:
        outcome.append(play.server.result)
    return outcome


def test_the_search_finds_a_secret_however_it_is_written() -> None:
    secret = fixed("a secret")
    for text in (
        f"x{secret.hex()}y",
        repr({"key": secret}),
        f"{list(secret)}",
        f"{int.from_bytes(secret, 'big')}",
        base64.b64encode(secret).decode(),
        repr(bytearray(secret)),
    ):
        assert leaks(text, [secret]), text
    assert not leaks("nothing to see", [secret])


@pytest.mark.parametrize("vanished", [{}, {1: "vector"}, {0: "signatures"}])
def test_no_object_of_a_session_shows_a_secret(vanished: dict[int, str], caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    terms = small_terms(4, dropout=0.25)
    secrets = [secret for i in range(4) for secret in secrets_of(i, 0)]
    play = Play(terms, vectors_of(4, terms), vanished)
    texts = []
    for step in (
        play.advertise,
        lambda: play.deliver("roster"),
        lambda: play.deliver("mailbox"),
        play.contribute,
        lambda: play.deliver("survivors"),
        lambda: play.deliver("signatures"),
        play._close,
    ):
        step()
        texts += [f"{one!r} {one}" for one in everything(play)]
    assert play.server.result is not None
    assert not leaks(" ".join(texts), secrets)
    assert caplog.records == []


def test_a_file_log_does_not_show_what_it_holds(tmp_path: Any) -> None:
    log = FileLog(tmp_path / "device.log")
    terms = small_terms(3)
    device = Device(
        Play(terms, vectors_of(3, terms)).session,
        identity(0),
        log,
        entropy=lambda size: root_secret(0)[:size],
    )
    device.start()
    assert log.read(0).data[32:] == root_secret(0)
    assert not leaks(repr(log) + repr(device), secrets_of(0, 0))
    log.close()


def test_records_and_identities_do_not_show_what_they_hold() -> None:
    secret = fixed("a secret")
    for one in (
        Record("start", secret),
        MemoryLog([Record("start", secret)]),
        Identity(secret),
        KeyPair(secret),
    ):
        assert not leaks(repr(one), [secret]), type(one)


@pytest.mark.parametrize(
    "message",
    [Roster(fixed("x"), b"", ()), Mailbox(fixed("x"), (fixed("y"),)), Signatures(fixed("x"), b"", ())],
)
def test_messages_show_their_names_only(message: Any) -> None:
    assert repr(message) == type(message).__name__


def test_errors_of_hostile_sessions_show_no_secret(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[tuple[SecureSumError, list[bytes]]] = []
    for seed in range(2_000_000, 2_000_120):
        run = Run(seed).play()
        secrets = [secret for one in run.all for secret in secrets_of(one.number, seed)]
        errors += [(error, secrets) for one in run.all for error in one.errors]
    assert len(errors) > 500
    for error, secrets in errors:
        text = f"{error} {error!r} {error.given} {error.expected} {error.do} {error.__cause__!r}"
        assert not leaks(text, secrets)
    assert caplog.records == []


def test_a_transcript_holds_no_secret() -> None:
    terms = small_terms(4, dropout=0.25)
    play = Play(terms, vectors_of(4, terms), {2: "vector"}).run()
    assert play.server.result is not None
    data = msgspec.msgpack.encode(msgspec.to_builtins(play.server.result.transcript, builtin_types=(bytes,)))
    root, context = play.server._state.root, play.session.context
    for i in range(4):
        secrets = secrets_of(i, 0)
        for secret in (*secrets, self_mask(secrets[1], root, context)):
            assert secret not in data
            assert secret.hex().encode() not in data
