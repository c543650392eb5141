"""What came before a session: a chain of digests its devices are bound to, and sign again once it is over.

A head stands for all that has happened up to it. A session's context names the head before it, so every signature of
every device covers all earlier sessions; whoever changes one of them has to forge those of all devices of the next.
After the session its survivors sign the head that came of it, which covers the session itself and what was made of it.

What this binds is history, not truth: a device takes the head from the server, as it does the model, and can only
tell that it is the one that others of its session were told.
"""

from collections.abc import Mapping, Sequence

from fairyring.core.errors import SecureSumError
from fairyring.secagg._suite import digest, members, verified
from fairyring.secagg.identity import Identity
from fairyring.secagg.messages import Advertise, decode
from fairyring.secagg.terms import Session
from fairyring.secagg.transcript import Transcript


def linked(head: bytes, kind: str, *parts: bytes | memoryview) -> bytes:
    """The head after something more happened: 32 bytes.

    Args:
        head: of all before; 32 random bytes where nothing was.
        kind: of what happened, so that none can pass for another.
        parts: what it was.
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
    """Signatures of a head by devices of a session, `(index, signature)` in ascending order."""
    payload = _payload(session, head)
    return tuple((index, signers[index].sign(payload)) for index in sorted(signers))


def check_attested(transcript: Transcript, head: bytes, signatures: Sequence[tuple[int, bytes]]) -> None:
    """Check that every device in a session's sum has signed `head`.

    Raises:
        SecureSumError: one has not, or somebody else has.
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
            expected=f"one by each of {len(survivors)} devices, of this head",
            do="Do not trust this run: its end was changed, or never was.",
        )


def _payload(session: Session, head: bytes) -> bytes:
    return digest("attested", session.context, head)
