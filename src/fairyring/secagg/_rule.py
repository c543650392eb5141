"""A row of a transition table."""

from typing import NamedTuple


class Transition(NamedTuple):
    """What becomes of an event in a stage.

    Attributes:
        handler: the method that checks the event and says what follows from it.
        then: the stage after it.
        answer: the message that is sent, or nothing.
        aside: the stage after it instead, where something must be settled first. Where there is one, `answer` is sent
            only on the way there.
    """

    handler: str
    target: str
    answer: str = ""
    detour: str = ""
