"""Privacy loss distributions of Gaussian sums over a set that is drawn without replacement."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from fairyring.privacy import _rdp
from fairyring.privacy.participation import FixedSize

_DEVIATIONS = (
    9.0  # from the mean of the release with the device; the mass further out, 1e-19, counts as infinite loss
)


def epsilon_of(counts: Mapping[float, int], participation: FixedSize, delta: float, interval: float) -> float:
    """Epsilon of so many Gaussian releases of each noise multiplier, one device replaced by another.

    If `(P, Q)` dominates a release of the drawn set itself, and a fraction `g` is drawn, the hockey-stick divergence of
    order `a` between the releases of neighbours is at most

        H_a(g P + (1 - g) Q || Q)  for a >= 1,      H_a(P || (1 - g) P + g Q)  for a < 1

    (Zhu, Dong, Wang 2022, "Optimal accounting of differential privacy via characteristic function", Proposition 30;
    Balle, Barthe, Gaboardi 2018, Theorem 9, has the first line). Here `P = N(2, z^2)` and `Q = N(0, z^2)` in units of
    the clip norm: replacing a device moves the sum by up to twice that. One pair of populations need not attain both lines
    (Lebeda, Regehr, Kamath, Steinke 2024), so composing either pair alone gives no bound. Together the two lines are a
    convex function, and so the profile of another pair. That pair does compose to a bound, also if later releases depend
    on earlier ones (Theorem 10 of the first).

    Args:
        counts: number of releases by noise multiplier, relative to the clip norm.
        participation: how many devices are drawn of how many; fewer than all.
        delta: in `(0, 1)`.
        interval: step between discretised losses, in nats. A wider step never gives less.
    """
    rate = participation.size / participation.population
    total: Any = None
    for multiplier, n in counts.items():
        loss = _loss(multiplier, rate, interval).self_compose(n)
        total = loss if total is None else total.compose(loss)
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=8)
def _loss(multiplier: float, rate: float, interval: float) -> Any:
    _rdp.dp_accounting()
    from dp_accounting.pld import pld_pmf

    probabilities, infinite = loss_of(multiplier, rate, interval)
    return pld_pmf.DensePLDPmf(interval, -(len(probabilities) // 2), probabilities, infinite, True)


def loss_of(multiplier: float, rate: float, interval: float) -> tuple[np.ndarray, float]:
    """An upper bound on the privacy loss distribution of one release, on multiples of `interval`.

    Losses above 0 are those of `g P + (1 - g) Q` against `Q`. A loss of `-l` has `exp(-l)` times the probability of
    `l`, since neighbours are neighbours in either order. The remaining mass is at a loss of 0, where the two lines of
    `epsilon_of` meet at an angle. Mass between two points is divided so that the masses under both distributions are kept:
    Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, "Connect the dots". Their formula takes second differences of the
    profile, and so loses more digits.

    Args:
        multiplier: noise multiplier, relative to the clip norm.
        rate: fraction that is drawn, in `(0, 1)`.
        interval: step between losses, in nats.

    Returns:
        Float64 `[2 k + 1]`, the probabilities of losses of `-k` to `k` intervals; and the probability of an infinite loss.
    """
    from scipy.special import ndtr

    shift = 2 / multiplier
    maximum = math.log1p(rate * math.expm1(shift * (shift / 2 + _DEVIATIONS)))
    losses = interval * np.arange(math.ceil(maximum / interval) + 1)
    places = shift / 2 + np.log1p(np.expm1(losses) / rate) / shift
    without = ndtr(-places)
    with_it = without + rate * (ndtr(shift - places) - without)
    here, there = -np.diff(with_it), -np.diff(without)  # between two losses
    upper = np.clip((here - there * np.exp(losses[:-1])) / -math.expm1(-interval), 0.0, here)
    above = upper.copy()
    above[:-1] += (here - upper)[1:]
    infinite = float(with_it[-1])
    below = above * np.exp(-losses[1:])
    nothing = 1 - infinite - above.sum() - below.sum()
    return np.concatenate([below[::-1], [nothing], above]), infinite
