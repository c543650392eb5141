"""What the server sends when a phase begins, and again when a device asks for it."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fairyring.secagg._phases import Phase
from fairyring.secagg._state import State
from fairyring.secagg._suite import bitmap
from fairyring.secagg.messages import Mailbox, Roster, Signatures, encode

_ANNOUNCED = {
    Phase.SHARING: "roster",
    Phase.OPENING: "mailbox",
    Phase.DISCLOSING: "accusation",
    Phase.MASKING: "settlement",
    Phase.CONFIRMING: "survivors",
    Phase.UNMASKING: "signatures",
}
# A device asks again by repeating its own message: which announcements may answer it.
_ANSWERS = {
    "advertise": ("roster",),
    "shares": ("mailbox", "accusation", "settlement"),
    "complaint": ("accusation", "settlement"),
    "disclosure": ("settlement",),
    "masked_input": ("survivors",),
    "consistency": ("signatures",),
}


class Outgoing(NamedTuple):
    """A message for a device."""

    to: bytes  # the device's identity
    data: bytes


def announcements(state: State) -> Iterator[Outgoing]:
    """Everything that is sent at the beginning of the current phase."""
    name = _ANNOUNCED.get(state.phase)
    if name is not None:
        make = _maker(state, name)
        for index in _receivers(state, name):
            yield Outgoing(state.roster[index].identity, make(index))


def answer(state: State, kind: str, sender: bytes) -> list[Outgoing]:
    """What has been announced to a device since it sent a message of this kind."""
    index = state.index.get(sender)
    current = _ANNOUNCED.get(state.phase)
    outgoing = []
    for name in _ANSWERS.get(kind, ()):
        # A late device may still open its mailbox and then contribute its input.
        late = name == "mailbox" and current in ("accusation", "settlement")
        if index is not None and (late or name == current) and index in _receivers(state, name):
            outgoing.append(Outgoing(sender, _maker(state, name)(index)))
    return outgoing


def _receivers(state: State, name: str) -> Sequence[int]:
    """The devices that an announcement is for."""
    match name:
        case "roster":
            return range(len(state.roster))
        case "mailbox":
            return sorted(state.sealed)
        case "accusation":
            return sorted(state.disputes.accused)
        case "settlement":
            return [index for index in sorted(state.holders) if state.disputes.concerns(index)]
        case "survivors":
            return state.survivors
        case _:
            return state.askable


def _maker(state: State, name: str) -> Callable[[int], bytes]:
    """The function that makes an announcement for the device at an index."""
    match name:
        case "roster":
            joined = b"".join(state.entries)

            def roster(index: int) -> bytes:
                others = (*state.neighbours(index), *state.committee)
                return encode(Roster(joined, state.beacon, tuple(state.roster[other] for other in others)))

            return roster
        case "mailbox":

            def mailbox(index: int) -> bytes:
                entries = tuple(state.entry(index, other) for other in state.neighbours(index))
                return encode(Mailbox(state.root, entries))

            return mailbox
        case "accusation":
            return lambda index: encode(state.disputes.accusation(index))
        case "settlement":
            return lambda index: encode(state.disputes.settlement(index))
        case "survivors":
            message = encode(state.survivors_message())
            return lambda index: message
        case _:
            survivors = bitmap(state.survivors, len(state.roster))

            def signatures(index: int) -> bytes:
                near = tuple(state.signed.get(other, b"") for other in state.neighbours(index))
                return encode(Signatures(state.root, survivors, near + state.committee_signatures()))

            return signatures
