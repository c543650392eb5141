"""The phases of a server's session, and the events that lead from one to the next."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from fairyring.secagg._transition import Transition
from fairyring.secagg.messages import (
    Advertise,
    Complaint,
    Consistency,
    Disclosure,
    MaskedInput,
    Shares,
    Unmask,
)


class Phase(StrEnum):
    """What the server is waiting for."""

    ADVERTISING = "advertising"
    SHARING = "sharing"
    OPENING = "opening"
    DISCLOSING = "disclosing"
    MASKING = "masking"
    CONFIRMING = "confirming"
    UNMASKING = "unmasking"
    DONE = "done"
    ABORTED = "aborted"


# The only place that says which event may follow which. "close" ends a phase: only what has arrived by then counts.
# Handlers are methods of `_state.State`.
TRANSITIONS: Mapping[tuple[Phase, str], Transition] = MappingProxyType(
    {
        (Phase.ADVERTISING, "advertise"): Transition("add_advert", Phase.ADVERTISING),
        (Phase.ADVERTISING, "close"): Transition("freeze_roster", Phase.SHARING, "roster"),
        (Phase.SHARING, "shares"): Transition("add_shares", Phase.SHARING),
        (Phase.SHARING, "close"): Transition("freeze_holders", Phase.OPENING, "mailbox"),
        (Phase.OPENING, "complaint"): Transition("add_complaint", Phase.OPENING),
        (Phase.OPENING, "close"): Transition(
            "freeze_complaints", Phase.MASKING, "accusation", detour=Phase.DISCLOSING
        ),
        (Phase.DISCLOSING, "disclosure"): Transition("add_disclosure", Phase.DISCLOSING),
        (Phase.DISCLOSING, "close"): Transition("freeze_barred", Phase.MASKING, "settlement"),
        (Phase.MASKING, "masked_input"): Transition("add_input", Phase.MASKING),
        (Phase.MASKING, "close"): Transition("freeze_survivors", Phase.CONFIRMING, "survivors"),
        (Phase.CONFIRMING, "consistency"): Transition("add_signature", Phase.CONFIRMING),
        (Phase.CONFIRMING, "close"): Transition("freeze_signers", Phase.UNMASKING, "signatures"),
        (Phase.UNMASKING, "unmask"): Transition("add_unmasking", Phase.UNMASKING),
        (Phase.UNMASKING, "close"): Transition("finish", Phase.DONE),
    }
)

KINDS = {
    Advertise: "advertise",
    Shares: "shares",
    Complaint: "complaint",
    Disclosure: "disclosure",
    MaskedInput: "masked_input",
    Consistency: "consistency",
    Unmask: "unmask",
}


def awaited(phase: Phase) -> str:
    """The kind of message a phase waits for, for an error."""
    kinds = [kind for each, kind in TRANSITIONS if each == phase and kind != "close"]
    return kinds[0] if kinds else "nothing more"
