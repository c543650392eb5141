"""What must hold of a device's message before the server accepts it."""

from typing import Any

from fairyring.core.packing import check_packed
from fairyring.secagg import shamir
from fairyring.secagg._phases import awaited
from fairyring.secagg._state import State
from fairyring.secagg._suite import low_order, verified
from fairyring.secagg.identity import Policy
from fairyring.secagg.messages import Advertise, Consistency, MaskedInput


def verify_sender(state: State, message: Any) -> tuple[bytes, bytes]:
    """The identity that signed a message, and what it signed.

    Raises:
        MessageRefused: the sender is not in the roster, or the signature is not the sender's.
    """
    if isinstance(message, Advertise):
        identity = message.identity
    else:
        if not state.roster or message.sender >= len(state.roster) or message.root != state.root:
            raise state.refusal(
                f"{message!r} of another session", "one for this roster", "Send it to its own session."
            )
        identity = state.roster[message.sender].identity
        if isinstance(message, Consistency) and not state.survivors:
            raise state.refusal(f"{message!r}", awaited(state.phase), "Wait: it came too early.")
    payload = state.payload(message)
    if not verified(identity, message.signature, payload):
        if isinstance(message, MaskedInput) and state.disputes.barred_near(message.sender):
            raise state.refusal(
                f"{message!r} with a forged signature, or under masks with a barred device",
                "a message signed by its sender, who was told which devices are barred",
                "It cannot be sent again: wait for another session.",
            )
        raise state.refusal(
            f"{message!r} with a forged signature", "one signed by its sender", "Do not send it again."
        )
    return identity, payload


def check(state: State, policy: Policy, kind: str, message: Any, sender: bytes) -> None:
    """Check a message, from a verified sender, that arrived in its phase for the first time.

    Raises:
        MessageRefused: it must not be accepted.
    """
    if isinstance(message, Advertise):
        _check_advert(state, policy, message, sender)
        return
    if kind == "masked_input" and message.sender not in state.holders:
        raise state.refusal(
            "the input of a device that sent no shares",
            "one from a device that did",
            "Wait for another session.",
        )
    if kind == "consistency" and message.sender not in state.inputs:
        raise state.refusal(
            "a signature by a device that is no survivor", "one by a survivor", "Wait for another session."
        )
    if kind == "unmask" and message.sender not in state.askable:
        raise state.refusal(
            "shares that were not asked for", "those of a device that was asked", "Send nothing."
        )
    if kind == "complaint" and not (
        message.sender in state.holders
        and state.disputes.may_complain(message, lambda other: state.entry(message.sender, other))
    ):
        raise state.refusal(
            "a complaint about something its sender was not given",
            "a signature of the entry it was given",
            "Complain about that entry.",
        )
    if kind == "disclosure" and not state.disputes.may_disclose(message):
        raise state.refusal(
            "other shares than those in dispute", "exactly those, each signed", "Send those and no others."
        )
    if not _has_right_size(state, kind, message):
        raise state.refusal(
            f"{message!r} of the wrong size", "the size that the session's terms give", "Send all of it."
        )
    if kind == "masked_input":
        terms = state.session.terms
        try:
            check_packed(message.vector, terms.modulus_bits, terms.words)
        except ValueError as error:
            raise state.refusal(f"{message!r}: {error}", "a packed vector", "Send all of it.") from None


def _check_advert(state: State, policy: Policy, advert: Advertise, sender: bytes) -> None:
    maximum = state.session.terms.maximum_cohort
    if not policy.admits(sender):
        raise state.refusal(
            "a device that may not take part", "one that the policy admits", "Enrol it first."
        )
    if not state.keys.isdisjoint((advert.encryption_key, advert.masking_key)):
        raise state.refusal("a device with another's key", "keys of its own", "Generate new keys.")
    if len(state.adverts) >= maximum:
        raise state.refusal("one device more", f"at most {maximum}", "Wait for another session.")
    if low_order(advert.encryption_key) or low_order(advert.masking_key):
        raise state.refusal("a key of low order", "a key that keeps a secret", "Generate new keys.")


def _has_right_size(state: State, kind: str, message: Any) -> bool:
    if kind == "shares":
        return [len(entry) for entry in message.sealed] == [2 * shamir.SHARE_BYTES + 16] * state.graph.degree
    if kind == "masked_input":
        return len(message.vector) == state.session.terms.vector_bytes
    if kind == "unmask":
        owed = [
            shamir.SHARE_BYTES if index in state.holders else 0 for index in state.neighbours(message.sender)
        ]
        return [len(share) for share in message.shares] == owed
    return True
