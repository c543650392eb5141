"""Probabilities of draws without replacement, computed from base-2 logarithms of factorials."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def factorials(n: int) -> np.ndarray:
    """`log2(i!)` for i = 0..n: `[n + 1]`."""
    logarithms = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, n + 1)))])
    logarithms.flags.writeable = False
    return logarithms


def hypergeometric(n: int, marked: int, draws: int) -> np.ndarray:
    """Probabilities that 0, 1, ..., `draws` of the items drawn are marked: `[draws + 1]`.

    `draws` of `n` items are drawn without replacement; `marked` of the `n` are marked.
    """
    factorial = factorials(n)
    x = np.arange(draws + 1)
    possible = (x <= marked) & (draws - x <= n - marked)
    y = x[possible]

    def choose(a: int, b: np.ndarray) -> np.ndarray:
        return factorial[a] - factorial[b] - factorial[a - b]

    probabilities = np.zeros(draws + 1)
    total = factorial[n] - factorial[draws] - factorial[n - draws]
    probabilities[possible] = np.exp2(choose(marked, y) + choose(n - marked, draws - y) - total)
    return probabilities


def upper_tail(n: int, marked: int, draws: int) -> np.ndarray:
    """Probabilities that at least 0, 1, ..., `draws` of the items drawn are marked: `[draws + 1]`.

    Summed from the small end, so that small probabilities keep their digits.
    """
    return np.cumsum(hypergeometric(n, marked, draws)[::-1])[::-1]


def upper_quantile(n: int, marked: int, draws: int, probability: float) -> int:
    """The smallest `x` such that more than `x` marked items are drawn with at most this probability."""
    above = np.append(upper_tail(n, marked, draws)[1:], 0.0)
    return int(np.argmax(above <= probability))


def lower_quantile(n: int, marked: int, draws: int, probability: float) -> int:
    """The smallest `x` such that at most `x` marked items are drawn with at least this probability."""
    return int(np.argmax(np.cumsum(hypergeometric(n, marked, draws)) >= probability))
