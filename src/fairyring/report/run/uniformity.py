"""Whether words look like random bits: Pearson's chi-square test of their bytes."""

import math
from typing import NamedTuple

import numpy as np

from fairyring.core.packing import pack_words

VALUES = 256


class Uniformity(NamedTuple):
    """A test of the hypothesis that all byte values are equally likely.

    Attributes:
        statistic: chi-square, 255 on average under the hypothesis.
        p: the chance of a statistic so far from what is expected, on either side, under the hypothesis.
        bytes: how many were tested.
    """

    statistic: float
    p: float
    bytes: int


def uniformity(words: np.ndarray, bits: int) -> Uniformity:
    """Test the `bits` low bits of unsigned words `[n]`, packed without gaps.

    The distribution of the statistic is approximated by Wilson and Hilferty (1931), which is good to three digits with
    255 degrees of freedom.
    """
    packed = np.frombuffer(pack_words(words, bits), np.uint8)
    packed = packed[: len(words) * bits // 8]  # a last byte that is not full is not random
    if len(packed) == 0:
        return Uniformity(math.nan, math.nan, 0)
    counts = np.bincount(packed, minlength=VALUES)
    expected = len(packed) / VALUES
    statistic = float(((counts - expected) ** 2).sum() / expected)
    freedom = VALUES - 1
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return Uniformity(statistic, math.erfc(abs(z) / math.sqrt(2)), len(packed))
