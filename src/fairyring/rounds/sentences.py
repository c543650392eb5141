"""A sentence that a run says of its own privacy, and the function that knows when it holds."""

from collections.abc import Callable
from typing import NamedTuple

from fairyring.rounds.privacy_context import PrivacyContext

ASSUMED, PRIVATE, NOT_PRIVATE = "assumed", "private", "not_private"


class Sentence(NamedTuple):
    """A sentence about a run.

    Attributes:
        kind: what it is about: something assumed, private or not_private.
        title: in a few words; different for each sentence of a run.
        text: in full.
    """

    kind: str
    title: str
    text: str


Says = Callable[[PrivacyContext], Sentence | None]
