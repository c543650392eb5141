"""What the server sees of a cohort's updates."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Combine:
    """How a cohort's encoded updates become the one update that the server half works on.

    Masks and noise show the server nothing but sums, so they exclude any rule for which it must see more.

    Attributes:
        sees: ``"sum"``, the sum of all updates; ``"groups"``, one sum for each of a few groups of clients; ``"rows"``, every
            client's update. A plan takes only ``"sum"`` so far.
    """

    sees: Literal["sum", "groups", "rows"]


def sum() -> Combine:
    """The sum of all updates, which the stages turn into a mean. Plain and secure sums both give it."""
    return Combine("sum")
