"""A row of a transition table."""

from typing import NamedTuple


class Rule(NamedTuple):
    """What becomes of an event in a stage.

    Attributes:
        handler: the method that checks the event and says what follows from it.
        then: the stage after it.
        answer: the message that is sent, or nothing.
    """

    handler: str
    then: str
    answer: str = ""
