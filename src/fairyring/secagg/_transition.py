"""A row of a transition table."""

from typing import NamedTuple


class Transition(NamedTuple):
    """What an event does in a phase.

    Attributes:
        handler: name of the method that checks the event and computes its effect.
        target: the phase that follows.
        answer: the message that is sent; empty if there is none.
        detour: the phase that follows instead if something must be settled first. If there is a detour, `answer` is sent
            only on the way there.
    """

    handler: str
    target: str
    answer: str = ""
    detour: str = ""
