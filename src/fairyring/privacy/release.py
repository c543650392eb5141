"""A release of a noisy sum, as the ledger records it and the accountant composes it."""

import math
from collections.abc import Iterable

import msgspec

from fairyring.core.noise import Noise


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One noisy sum that a round released, described by the noise that was really in it.

    Attributes:
        mechanism: `"gaussian"`: a continuous Gaussian rounded to integers, added by the server;
            `"correlated"`: the same, correlated over rounds by a banded inverse square root; `"discrete_gaussian"`
            and `"skellam"`: the sum of shares that the clients added themselves.
        multiplier: standard deviation of the sum's noise relative to the sum's L2 sensitivity. For correlated noise, of the
            independent noise `z_t` it is made from.
        bands: number of coefficients of the inverse square root in correlated noise; otherwise 0.
        dimension: number of noisy coordinates. This and the following fields, up to `scale`, are for the distributed
            mechanisms only.
        l2: bound on the L2 norm of one client's rounded vector, in steps of the grid.
        l1: bound on its L1 norm.
        shares: number of honest clients' shares of noise in the sum.
        sigma: standard deviation of one share, in steps of the grid.
        scale: steps of the grid per unit of the clipped vector.
        steps: for noise in every local step: number of noisy steps of a round that one example may be in, each on its own
            batch. 0 if the noise is in the sum of the round.
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
        """The release of a sum with this noise.

        Args:
            noise: noise of a plan's bound chain.
            shares: number of honest clients' shares in the sum; by default the promised number.
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


# Everything that one round released: one release, or several if the round was run again after a crash. A device in the
# round is in all of them.
OfRound = Release | tuple[Release, ...]


def of_round(releases: Iterable[Release]) -> OfRound:
    """The releases of one round in canonical form: a single release, or a sorted tuple."""
    ordered = tuple(sorted(releases, key=msgspec.structs.astuple))
    return ordered[0] if len(ordered) == 1 else ordered
