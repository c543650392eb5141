"""The history before a session: a chain of digests that the session is bound to, and that its survivors sign.

A head stands for everything that happened before it. A session's context includes the head before it, so every signature
of every device covers all earlier sessions. To change one of them, one must forge the signatures of all devices in the
next. After a session its survivors sign the new head, which covers the session itself and what became of its sum.

This binds everyone to one history; it does not prove that the history is true. A device takes the head from the server,
as it does the model, and can only check that the other devices of its session were given the same one.
"""

from collections.abc import Mapping, Sequence

from fairyring.core.errors import SecureSumError
from fairyring.secagg._suite import digest, members, verified
from fairyring.secagg.identity import Identity
from fairyring.secagg.messages import Advertise, decode
from fairyring.secagg.terms import Session
from fairyring.secagg.transcript import Transcript


def linked(head: bytes, kind: str, *parts: bytes | memoryview) -> bytes:
    """The head after one more event: 32 bytes.

    Args:
        head: the head before it; 32 random bytes at the beginning.
        kind: kind of event, so that none can pass for another.
        parts: the event.
    """
    return digest("history", head, kind.encode(), *parts)


def survivors_of(transcript: Transcript) -> dict[int, bytes]:
    """Index and identity of every device in a session's sum.

    Raises:
        SecureSumError: the transcript is malformed.
    """
    devices = len(transcript.adverts)
    adverts = [decode(data, Advertise, 1 << 10, "transcript") for data in transcript.adverts]
    return {i: adverts[i].identity for i in members(transcript.survivors, devices) or ()}


def attest(session: Session, head: bytes, signers: Mapping[int, Identity]) -> tuple[tuple[int, bytes], ...]:
    """Signatures of a head by devices of a session: `(index, signature)`, ascending."""
    payload = _payload(session, head)
    return tuple((index, signers[index].sign(payload)) for index in sorted(signers))


def check_attested(transcript: Transcript, head: bytes, signatures: Sequence[tuple[int, bytes]]) -> None:
    """Check that every device in a session's sum has signed `head`.

    Raises:
        SecureSumError: a signature is missing, is of another head, or is another device's.
    """
    survivors, payload = survivors_of(transcript), _payload(transcript.session, head)
    signed = [index for index, _ in signatures]
    right = signed == sorted(survivors) and all(
        verified(survivors[index], signature, payload) for index, signature in signatures
    )
    if not right:
        raise SecureSumError(
            "signed head of a run",
            given="signatures that are not those of all devices in the last sum",
            expected=f"one of this head by each of {len(survivors)} devices",
            do="Do not trust this run: its end was changed or invented.",
        )


def _payload(session: Session, head: bytes) -> bytes:
    return digest("attested", session.context, head)
