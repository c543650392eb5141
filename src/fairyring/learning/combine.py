"""What the server sees of a cohort's updates before it goes on from them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Combine:
    """How a cohort's encoded updates become the one that the server half works on.

    What the server must see for it decides what it can be combined with: masks and noise show nothing but sums.

    Attributes:
        sees: ``"sum"``, the sum of all updates; ``"groups"``, a sum for each of a few groups of clients; ``"rows"``, every
            client's update. A plan takes ``"sum"`` alone so far.
    """

    sees: Literal["sum", "groups", "rows"]


def sum() -> Combine:
    """The sum of all updates, of which the stages make a mean: what plain and secure sums give."""
    return Combine("sum")
