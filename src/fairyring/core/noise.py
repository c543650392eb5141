"""The parameters of the noise in a sum. A stage and the plan determine them; devices and the server draw noise with them.

Drawing noise needs only these numbers, and no compiled program.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Noise:
    """The noise that makes a sum private: whole numbers that are added outside of the compiled stages.

    Attributes:
        mechanism: the server adds `"gaussian"` and `"correlated"` noise to the sum; `"discrete_gaussian"` and
            `"skellam"` noise is the sum of shares that the clients add.
        multiplier: the standard deviation of the noise in the sum, over `l2`.
        coordinates: this many coordinates, from the first, are noisy; the ones after them are not secret.
        l2, l1: bounds of the norms of one client's noisy coordinates, in steps of the grid.
        scale: steps of the grid per unit of the vector that is rounded to it.
        dimension: of this vector; noisy coordinates after it are side values.
        bands: the number of coefficients of correlated noise.
        shares: the number of honest clients whose shares are sufficient; 0 if the server adds the noise.
        top_up: whether the server adds missing shares; if not, a sum of fewer clients is not released.
        sides: for each side value, in order, the standard deviation of the noise in its sum, in units of the value, for
            noise with standard deviation 1 on a coordinate; 0 for a weight that is counted without noise.
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
        """The standard deviation of the noise in a sum with exactly the promised noise, in steps of the grid."""
        return self.multiplier * self.l2

    def auxiliary_std(self, weight: float, sigma: float | None = None) -> tuple[float, ...]:
        """The standard deviation of the noise in the mean of each side value after the weight.

        Args:
            weight: the decoded total weight, by which the sums are divided.
            sigma: the standard deviation on a coordinate of the sum, in steps of the grid; by default that of a sum with
                exactly the promised noise.

        Returns:
            One standard deviation per value, in its units, before values are clipped to their bounds.
        """
        return tuple(
            auxiliary * (self.sigma if sigma is None else sigma) / weight
            for auxiliary in self.auxiliaries[1:]
        )


class NoiseRequest(NamedTuple):
    """The parameters of a noise stage before it is bound.

    `multiplier` and `bands` are None if a budget determines them. `shares` is None if the plan's secure sum determines
    it, and 0 if the server adds the noise.
    """

    mechanism: str
    multiplier: float | None
    bands: int | None = 0
    shares: int | None = 0
    top_up: bool = False
