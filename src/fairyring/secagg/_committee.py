"""The committee: devices whose signatures everybody checks, so that a server cannot announce two sets of survivors.

A device's neighbours vouch only for what the server says around that device. On a long ring a server could announce one
set in one stretch and another set elsewhere. It cannot if all devices ask for signatures of the same few.
"""

from functools import lru_cache
from typing import NamedTuple

from fairyring.secagg._chances import lower_quantile, upper_quantile


class Committee(NamedTuple):
    """Number of members, and how many of them must sign a set; 0 and 0 if no committee is needed."""

    size: int
    threshold: int


NOBODY = Committee(0, 0)


@lru_cache(maxsize=256)
def smallest_committee(
    clients: int, adversaries: int, staying: int, security: float, correctness: float
) -> Committee | None:
    """The smallest committee, drawn at random, that can sign one set and cannot sign two.

    Honest members sign one set, adversaries sign any. If a set needs the signatures of more than half of the honest
    members and all adversaries, no two sets can both have enough.

    Args:
        clients: devices in a session.
        adversaries: how many of them sign whatever the server wants.
        staying: how many do not vanish before they sign.
        security: allowed probability that the committee has more adversaries than the threshold assumes.
        correctness: allowed probability that too few members stay.

    Returns:
        None if no committee meets both.
    """
    for size in range(1, clients + 1):
        threshold = (size + upper_quantile(clients, adversaries, size, security)) // 2 + 1
        if threshold <= lower_quantile(clients, staying, size, correctness):
            return Committee(size, threshold)
    return None
