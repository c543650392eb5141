"""Reading the bits of a step's log: who died, who was born, and to whom.

Places are reused, so a place does not identify an individual. A number (`uid`) does. Founders are numbered from 0 in the order
of their places; children and immigrants get the next numbers, in order of steps and within a step in order of places.
"""

from typing import NamedTuple

import numpy as np


class Happenings(NamedTuple):
    """Births and deaths over some steps, in order. A step counts from 1; the change is in force at its end."""

    born_step: np.ndarray  # int32
    born_place: np.ndarray
    parent_place: np.ndarray  # -1 for an immigrant
    died_step: np.ndarray
    died_place: np.ndarray


def happenings(first_step: int, died: np.ndarray, divided: np.ndarray, born: np.ndarray) -> Happenings:
    """Decode the bits of some steps.

    Args:
        first_step: number of the first of them; the first step of a world is 1.
        died, divided, born: uint32 words `[steps, words]`.
    """
    died_step, died_place = _places(died)
    born_step, born_place = _places(born)
    parent_step, parent_place = _places(divided)
    # The n-th child of a step belongs to its n-th parent; immigrants come after the children.
    parents = np.bincount(parent_step, minlength=len(born) + 1)
    rank = np.arange(len(born_step)) - np.searchsorted(born_step, born_step)
    child = rank < parents[born_step]
    parent_of = np.full(len(born_step), -1, np.int32)
    start = np.searchsorted(parent_step, born_step)
    parent_of[child] = parent_place[(start + rank)[child]]
    return Happenings(
        (born_step + first_step).astype(np.int32),
        born_place.astype(np.int32),
        parent_of,
        (died_step + first_step).astype(np.int32),
        died_place.astype(np.int32),
    )


def _places(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step and place of each set bit, in order. Few words have any, and only those are unpacked."""
    steps, at = np.nonzero(words)
    bits = np.ascontiguousarray(words[steps, at].astype("<u4"))[:, None].view(np.uint8)
    rows, bit = np.nonzero(np.unpackbits(bits, axis=1, bitorder="little"))
    return steps[rows], at[rows] * 32 + bit
