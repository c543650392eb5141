"""The noise of a sum, in numbers: what a stage states of it, a plan decides, and a device and a server draw by.

Whoever draws noise needs these numbers and no compiled program.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Noise:
    """The noise that makes a sum private: whole numbers, added outside of the compiled stages.

    Attributes:
        mechanism: `"gaussian"` and `"correlated"` are added to the sum by the server; `"discrete_gaussian"` and
            `"skellam"` are the sum of shares the clients add themselves.
        multiplier: standard deviation of the sum's noise over `l2`.
        coordinates: the first so many coordinates of the vector are noisy; what follows is no secret.
        l2, l1: norms that one client's noisy coordinates cannot exceed, in steps of the grid.
        scale: steps of the grid in a unit of the vector that was rounded to it.
        dimension: of that vector; noisy coordinates after it are side values.
        bands: coefficients of correlated noise.
        shares: how many honest clients' shares are enough; 0 where the server adds the noise.
        top_up: the server adds the shares that are missing; otherwise a sum of fewer clients is not released.
        sides: of each side value, in order, what one standard deviation of the noise on a coordinate comes to in its
            sum, in the value's own unit; 0 for a weight that is counted without noise.
    """

    mechanism: str
    multiplier: float
    coordinates: int
    l2: float
    l1: float
    scale: float
    dimension: int
    bands: int = 0
    shares: int = 0
    top_up: bool = False
    auxiliaries: tuple[float, ...] = ()

    @property
    def distributed(self) -> bool:
        """Whether clients add the noise."""
        return self.shares > 0

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise of a sum that is as noisy as promised, in steps of the grid."""
        return self.multiplier * self.l2

    def auxiliary_std(self, weight: float, sigma: float | None = None) -> tuple[float, ...]:
        """Standard deviation of the noise in the mean of each side value after the weight.

        Args:
            weight: the sum's, as it is decoded: what the sums are divided by.
            sigma: standard deviation on a coordinate of the sum, in steps of the grid; without it, that of a sum as noisy
                as promised.

        Returns:
            One for each, in the value's own unit, as it is before it is cut to its bounds.
        """
        return tuple(
            auxiliary * (self.sigma if sigma is None else sigma) / weight
            for auxiliary in self.auxiliaries[1:]
        )


class NoiseRequest(NamedTuple):
    """What a plan knows of a noise stage before it is bound.

    `multiplier` and `bands` are None where a budget is to decide them; `shares` where the plan's secure sum does, and 0
    where the server adds the noise.
    """

    mechanism: str
    multiplier: float | None
    bands: int | None = 0
    shares: int | None = 0
    top_up: bool = False
