"""A table from which a number is drawn with one random word: Walker's alias method, in integers.

The table has a power of two of cells of equal mass. Each is shared between its own number and one other (Walker 1977; Vose
1991 for how it is filled). The high bits of a word choose the cell, its low bits the number within it. Weights have 128
bits and a word has 64: if the low bits equal those of the cell's border, 64 more bits decide. That happens with probability
below 2^-48 per number. Without it, nothing less likely than 2^-64 would ever be drawn, and a sum of a million numbers could
be distinguished from its law.
"""

from collections.abc import Callable, Sequence

import numpy as np

TOTAL_BITS = 128
LONGEST = 1 << 15
_WORD_BITS = 64
_LOW = (1 << _WORD_BITS) - 1


class Alias:
    """Draws number `i` with a probability of exactly `weights[i] / 2^128`.

    Args:
        weights: non-negative integers that add up to 2^128; at most `LONGEST`.

    Attributes:
        bits: the number of cells is `2**bits`; so many high bits of a word choose one.
        borders: uint64 `[cells]`, ascending: words below are the cell's own number, words above the other.
        beyond: uint64 `[cells]`: 64 more bits of the borders.
        others: int64 `[cells]`: the other number.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        if sum(weights) != 1 << TOTAL_BITS or min(weights) < 0 or len(weights) > LONGEST:
            raise AssertionError("weights of an alias table do not add up to one")
        self.bits = max(1, (len(weights) - 1).bit_length())
        cells = 1 << self.bits
        room = 1 << TOTAL_BITS - self.bits
        left = list(weights) + [0] * (cells - len(weights))
        own, others = [room] * cells, list(range(cells))
        poor = [i for i, mass in enumerate(left) if mass < room]
        rich = [i for i, mass in enumerate(left) if mass > room]
        while poor:
            receiver, giver = poor.pop(), rich[-1]
            own[receiver], others[receiver] = left[receiver], giver
            left[giver] -= room - left[receiver]
            if left[giver] <= room:
                rich.pop()
                if left[giver] < room:
                    poor.append(giver)
        # In a full cell both numbers are the same; its border is at its end.
        borders = [i * room + min(mass, room - 1) for i, mass in enumerate(own)]
        self.borders = np.array([border >> _WORD_BITS for border in borders], np.uint64)
        self.beyond = np.array([border & _LOW for border in borders], np.uint64)
        self.others = np.array(others, np.int64)

    def draw(self, words: np.ndarray, more: Callable[[int], np.ndarray], out: np.ndarray) -> None:
        """Write the number that each word stands for.

        Args:
            words: uint64 `[n]`, uniform.
            more: `more(count)` returns further uniform words; called at most once, for the numbers that 64 bits do
                not decide.
            out: int64 `[n]`, written.
        """
        np.right_shift(words, np.uint64(_WORD_BITS - self.bits), out=out.view(np.uint64))
        # The cell is in range by construction; a mode other than "raise" spares a copy.
        borders = self.borders.take(out, mode="wrap")
        others = self.others.take(out, mode="wrap")
        undecided = np.flatnonzero(words == borders)
        cells = out[undecided]
        np.copyto(out, others, where=words > borders)
        if len(undecided):
            other = more(len(undecided)) >= self.beyond[cells]
            out[undecided] = np.where(other, self.others[cells], cells)
