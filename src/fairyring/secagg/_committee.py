"""The devices whose signatures everybody checks, so that a server gets no answers to two stories of who stayed.

A device's neighbours vouch for what is told around it, and no more: a ring is long enough to be told one story here and
another there. What all devices ask of the same few, nobody can split.
"""

from functools import lru_cache
from typing import NamedTuple

from fairyring.secagg._chances import fewest_marked, most_marked


class Committee(NamedTuple):
    """How many devices are in it, and how many of them must have signed a set; 0 and 0 where none is needed."""

    size: int
    threshold: int


NOBODY = Committee(0, 0)


@lru_cache(maxsize=256)
def smallest_committee(
    clients: int, adversaries: int, staying: int, security: float, correctness: float
) -> Committee | None:
    """The smallest committee, drawn at random, that can sign one set and cannot sign two.

    Honest members sign one set, adversaries any: with more than half of all members and all adversaries no other set has
    as many signatures.

    Args:
        clients: devices in a session.
        adversaries: how many of them sign what the server likes.
        staying: how many stay to sign.
        security: the chance that the committee holds more adversaries than it was made for.
        correctness: the chance that too few of it stay.

    Returns:
        None where no committee will do.
    """
    for size in range(1, clients + 1):
        threshold = (size + most_marked(clients, adversaries, size, security)) // 2 + 1
        if threshold <= fewest_marked(clients, staying, size, correctness):
            return Committee(size, threshold)
    return None
