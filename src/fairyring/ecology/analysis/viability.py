"""Whether a population keeps itself."""

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
    newcomers: npt.ArrayLike,
    generation_length: float,
    persisted: Sequence[bool],
    *,
    overflow: int = 0,
    extinct: bool = False,
) -> Viability:
    """The class of a world: extinct, capacity-limited, propped or viable, the first that applies.

    Viable: no newcomer was thrown in during the last 20 generations, and of at least ten restarts in a closed world
    (without newcomers) nine in ten persist for 10 generations. Propped: one of the two does not hold. Capacity-limited:
    parents had to wait for a free slot, so the world's numbers are the array's and not the food's, whatever else holds.

    Args:
        newcomers: `[steps]`, how many random newcomers were thrown in at each step, founders not counted.
        generation_length: in steps; may be a fraction.
        persisted: for each closed restart whether it lasted 10 generations; may be empty where the class is plain
            without.
        overflow: births that found no slot.
        extinct: nobody is left.

    Raises:
        EcologyError, StatisticsError: a run too short, or too few restarts, to say that a population is viable; or arguments that are
            none.
    """
    thrown = samples.counts("newcomers", newcomers, axes=1)
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
    if thrown[-needed:].any():
        return "propped"
    if len(thrown) < needed:
        raise EcologyError(
            "newcomers",
            given=f"{len(thrown)} steps, {len(thrown) / generation_length:.3g} generations",
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
