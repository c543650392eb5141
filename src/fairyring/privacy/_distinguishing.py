"""The epsilon that separates two normal distributions."""

import math


def epsilon_between(mean: float, std: float, delta: float) -> float:
    """The smallest epsilon for which `N(0, 1)` and `N(mean, std^2)` are (epsilon, delta)-indistinguishable in both directions.

    With `std = 1` this is the exact epsilon of a Gaussian mechanism of sensitivity `|mean|` and noise 1 (Balle and
    Wang 2018, theorem 8). Otherwise the log ratio of the densities is a quadratic, which exceeds epsilon outside two points
    and is below -epsilon between two others.

    Args:
        mean: in standard deviations of the first.
        std: > 0, in standard deviations of the first.
        delta: in (0, 1).
    """
    if std < 1.0:  # in units of the other's standard deviation, the wider one is second again
        mean, std = mean / std, 1.0 / std
    mean = abs(mean)
    if _delta_at(0.0, mean, std) <= delta:
        return 0.0
    high = 1.0
    while _delta_at(high, mean, std) > delta:
        high *= 2.0
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2.0
        if _delta_at(middle, mean, std) > delta:
            low = middle
        else:
            high = middle
    return high


def _delta_at(epsilon: float, mean: float, std: float) -> float:
    """The smallest delta at this epsilon, for `mean >= 0` and `std >= 1`: the larger of both directions."""
    from scipy.special import log_ndtr, ndtr

    if std - 1.0 < 1e-9:  # the quadratic has become a line
        if mean == 0.0:
            return 0.0
        at = epsilon / mean + mean / 2.0
        return float(ndtr(mean - at)) - _weighed(epsilon, float(log_ndtr(-at)))
    a, b = (1.0 - std**-2) / 2.0, mean / std**2
    c = -((mean / std) ** 2) / 2.0 - math.log(std)
    # Each root is computed by the quotient without cancellation: `a` may be tiny.
    sum_ = b + math.sqrt(b * b + 4.0 * a * (epsilon - c))
    left, right = -sum_ / (2.0 * a), 2.0 * (epsilon - c) / sum_
    wide = float(ndtr((mean - right) / std)) + float(ndtr((left - mean) / std))
    narrow = _log_sum(float(log_ndtr(-right)), float(log_ndtr(left)))
    forward = wide - _weighed(epsilon, narrow)
    inside = b * b - 4.0 * a * (c + epsilon)
    if inside <= 0.0:
        return forward
    sum_ = b + math.sqrt(inside)
    left, right = -sum_ / (2.0 * a), -2.0 * (c + epsilon) / sum_
    backward = math.exp(_log_mass(left, right)) - _weighed(
        epsilon, _log_mass((left - mean) / std, (right - mean) / std)
    )
    return max(forward, backward)


def _weighed(epsilon: float, log_probability: float) -> float:
    """`e^epsilon` times a probability that is never larger than `e^-epsilon`."""
    return math.exp(min(0.0, epsilon + log_probability))


def _log_sum(first: float, second: float) -> float:
    high, low = max(first, second), min(first, second)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _log_mass(left: float, right: float) -> float:
    """Logarithm of the probability that a standard normal variable lies between two numbers."""
    from scipy.special import log_ndtr

    if left > 0.0:
        left, right = -right, -left
    high, low = float(log_ndtr(right)), float(log_ndtr(left))
    return -math.inf if low >= high else high + math.log1p(-math.exp(low - high))
