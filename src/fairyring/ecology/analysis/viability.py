"""Whether a population sustains itself."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.statistics import samples

Viability = Literal["extinct", "propped", "viable", "capacity-limited"]

QUIET_GENERATIONS = 20
_RESTARTS = 10
_PERSISTING = 9  # of ten


def viability(
    immigrants: npt.ArrayLike,
    generation_length: float,
    persisted: Sequence[bool],
    *,
    overflow: int = 0,
    extinct: bool = False,
) -> Viability:
    """The class of a world: the first that applies of extinct, capacity-limited, propped and viable.

    Viable: no immigrant came in during the last 20 generations, and of ten or more closed restarts nine in ten persist for 10
    generations. Propped: one of the two does not hold. Capacity-limited: parents had to wait for a free place, so the size of the
    population is set by the arrays and not by the food.

    Args:
        immigrants: `[steps]`, number of immigrants in each step; founders do not count.
        generation_length: in steps; may be a fraction.
        persisted: for each closed restart, whether it persisted for 10 generations; may be empty if the class does not
            depend on it.
        overflow: number of births that found no free place.
        extinct: whether nobody is left.

    Raises:
        EcologyError, StatisticsError: the run is too short, or has too few restarts, to call the population viable; or invalid
            arguments.
    """
    counts = samples.counts("immigrants", immigrants, axes=1)
    if not generation_length > 0:
        raise EcologyError(
            "generation_length",
            given=generation_length,
            expected="steps above 0",
            do="Measure it from births.",
        )
    if overflow < 0:
        raise EcologyError("overflow", given=overflow, expected="a number from 0", do="Count again.")
    if extinct:
        return "extinct"
    if overflow:
        return "capacity-limited"
    needed = int(np.ceil(QUIET_GENERATIONS * generation_length))
    if counts[-needed:].any():
        return "propped"
    if len(counts) < needed:
        raise EcologyError(
            "immigrants",
            given=f"{len(counts)} steps, {len(counts) / generation_length:.3g} generations",
            expected=f"{QUIET_GENERATIONS} generations or more",
            do="Run the world for longer before calling it viable.",
        )
    if len(persisted) < _RESTARTS:
        raise EcologyError(
            "persisted",
            given=f"{len(persisted)} restarts",
            expected=f"{_RESTARTS} or more",
            do="Restart it more often.",
        )
    return "viable" if _RESTARTS * sum(map(bool, persisted)) >= _PERSISTING * len(persisted) else "propped"
