"""Chances over who is beside whom: of draws without replacement, from base-2 logarithms of factorials."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def factorials(n: int) -> np.ndarray:
    """`log2(i!)` for i = 0..n: `[n + 1]`."""
    found = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, n + 1)))])
    found.flags.writeable = False
    return found


def hypergeometric(n: int, marked: int, draws: int) -> np.ndarray:
    """Chances that 0, 1, .. `draws` of those drawn without replacement from `n` are marked: `[draws + 1]`."""
    factorial = factorials(n)
    x = np.arange(draws + 1)
    possible = (x <= marked) & (draws - x <= n - marked)
    y = x[possible]

    def choose(a: int, b: np.ndarray) -> np.ndarray:
        return factorial[a] - factorial[b] - factorial[a - b]

    chances = np.zeros(draws + 1)
    total = factorial[n] - factorial[draws] - factorial[n - draws]
    chances[possible] = np.exp2(choose(marked, y) + choose(n - marked, draws - y) - total)
    return chances


def upper_tail(n: int, marked: int, draws: int) -> np.ndarray:
    """Chances that at least 0, 1, .. `draws` of those drawn are marked, summed from the small end: `[draws + 1]`."""
    return np.cumsum(hypergeometric(n, marked, draws)[::-1])[::-1]


def most_marked(n: int, marked: int, draws: int, chance: float) -> int:
    """The least `x` such that more than `x` marked are drawn with at most this chance."""
    above = np.append(upper_tail(n, marked, draws)[1:], 0.0)
    return int(np.argmax(above <= chance))


def fewest_marked(n: int, marked: int, draws: int, chance: float) -> int:
    """The least `x` such that at most `x` marked are drawn with at least this chance."""
    return int(np.argmax(np.cumsum(hypergeometric(n, marked, draws)) >= chance))
