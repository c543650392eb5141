"""What a release of a noisy sum spends: the fact the ledger keeps and the accountant adds up."""

import math
from collections.abc import Iterable

import msgspec

from fairyring.core.noise import Noise


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One noisy sum that left the round, described by the noise that was really in it.

    Attributes:
        mechanism: `"gaussian"`: a continuous Gaussian rounded to whole numbers, added by the server;
            `"correlated"`: the same, correlated over rounds by a banded inverse square root; `"discrete_gaussian"`
            and `"skellam"`: the sum of shares that the clients added themselves.
        multiplier: standard deviation of the sum's noise over the L2 sensitivity of the sum. Of correlated noise:
            that of the independent noise `z_t` it is made of.
        bands: of correlated noise: how many coefficients of the inverse square root are used; else 0.
        dimension: noisy coordinates. This and what follows: of the distributed mechanisms only.
        l2: L2 norm one client's rounded vector cannot exceed, in steps of the grid.
        l1: its L1 norm.
        shares: how many honest shares of noise are in the sum.
        sigma: standard deviation of one share, in steps of the grid.
        scale: steps of the grid in a unit of the clipped vector.
        steps: of training with noise in every local step: how many noisy steps of a round one example may be in, each on a
            batch of its own. 0: what is noisy is the sum of the round.
    """

    mechanism: str
    multiplier: float
    bands: int = 0
    dimension: int = 0
    l2: float = 0.0
    l1: float = 0.0
    shares: int = 0
    sigma: float = 0.0
    scale: float = 0.0
    steps: int = 0

    @classmethod
    def of(cls, noise: Noise, shares: int | None = None) -> "Release":
        """What a release with this noise spends.

        Args:
            noise: of a plan's bound chain.
            shares: honest clients' shares that are in the sum; without it, those that were promised.
        """
        if not noise.distributed:
            return cls(noise.mechanism, noise.multiplier, noise.bands)
        shares = shares or noise.shares
        return cls(
            noise.mechanism,
            noise.multiplier * math.sqrt(shares / noise.shares),
            0,
            noise.coordinates,
            noise.l2,
            noise.l1,
            shares,
            noise.sigma / math.sqrt(noise.shares),
            noise.scale,
        )


# All that left one round: one release; or several, where a round was run again after a crash. A device that is in the
# round is in all of them.
OfRound = Release | tuple[Release, ...]


def of_round(releases: Iterable[Release]) -> OfRound:
    """The releases of one round in their one form: alone, or a tuple in a fixed order."""
    found = tuple(sorted(releases, key=msgspec.structs.astuple))
    return found[0] if len(found) == 1 else found
