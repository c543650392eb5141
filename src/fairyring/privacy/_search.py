"""The smallest argument at which a decreasing function is within a bound, in few evaluations."""

import math
from collections.abc import Callable

from fairyring.core.errors import PlanError

_FLAT = 1e-3  # a function that falls by less than this, relatively, while its argument doubles has reached its floor
_STEP = 4.0  # factor between arguments until the answer is bracketed
_STEP_DOWN = 2.0  # smaller, because privacy losses take longer to compute with less noise


def smallest_multiplier(
    spends: Callable[[float], float],
    budget: float,
    *,
    low: float,
    high: float,
    precision: float,
    guess: float | None = None,
) -> float:
    """The smallest noise multiplier, to a relative precision and from above, at which `spends` is within `budget`.

    Args:
        spends: epsilon at a multiplier. A `PlanError` it raises counts as infinite, unless every multiplier raises one.
        budget: largest allowed epsilon.
        low: smallest multiplier to try; returned if it is within budget.
        high: largest multiplier to try.
        precision: relative precision.
        guess: a multiplier close to the answer, if known.

    Raises:
        PlanError: `spends` exceeds the budget wherever it was evaluated (the error names the smallest value found), or
            raised an error everywhere.
    """
    refusals: list[PlanError] = []
    computed: dict[float, float] = {}

    def at(multiplier: float) -> float:
        try:
            computed[multiplier] = spends(multiplier)
        except PlanError as error:
            refusals.append(error)
            computed[multiplier] = math.inf
        return computed[multiplier]

    under, over = _bracket(at, budget, low, high, precision, guess)
    if over is None:
        smallest = min(computed, key=lambda multiplier: computed[multiplier])
        if refusals and math.isinf(computed[smallest]):
            raise refusals[0]
        raise PlanError(
            "privacy budget",
            given=f"epsilon {budget:.4g}",
            expected=f"at least {computed[smallest]:.4g}, the smallest found, at a noise multiplier of {smallest:.4g}",
            do="Raise epsilon or delta, plan fewer rounds, or choose a mechanism or a grid that loses less.",
        ) from (refusals[-1] if refusals else None)
    if under is None:
        return over
    return _narrowed(at, computed, budget, under, over, precision)


def _bracket(
    at: Callable[[float], float],
    budget: float,
    low: float,
    high: float,
    precision: float,
    guess: float | None,
) -> tuple[float | None, float | None]:
    """A multiplier over budget (None if `low` is within), and one within budget (None if none was found)."""
    factor = _STEP if guess is None else 1 + precision / 2
    current = min(max(1.0 if guess is None else guess, low), high)
    value = at(current)
    if value <= budget:
        factor = min(factor, _STEP_DOWN)
        while current > low:
            lower = max(low, current / factor)
            if at(lower) > budget:
                return lower, current
            current, factor = lower, min(_STEP_DOWN, factor**2)
        return None, current
    while current < high:
        higher = min(high, current * factor)
        spent = at(higher)
        if spent <= budget:
            return current, higher
        # Only a wide step can recognise a floor; distributed noise spends more again on a coarser grid.
        if factor == _STEP and spent > value * (1 - _FLAT):
            break
        current, value, factor = higher, spent, min(_STEP, factor**2)
    return None, None


def _narrowed(
    at: Callable[[float], float],
    computed: dict[float, float],
    budget: float,
    under: float,
    over: float,
    precision: float,
) -> float:
    """Regula falsi on logarithms with the Illinois modification; points keep a minimum distance from both ends."""

    def excess(multiplier: float) -> float:
        value = computed[multiplier]
        return 3.0 if math.isinf(value) else min(3.0, max(-3.0, math.log(max(value, 1e-300) / budget)))

    above, below, margin = excess(under), excess(over), math.log1p(precision) / 2.5
    last = 0
    while over / under > 1 + precision:
        left, right = math.log(under), math.log(over)
        point = (left * below - right * above) / (below - above) if above > below else (left + right) / 2
        current = math.exp(min(max(point, left + margin), right - margin))
        if at(current) <= budget:
            over, below = current, excess(current)
            above = above / 2 if last > 0 else above
            last = 1
        else:
            under, above = current, excess(current)
            below = below / 2 if last < 0 else below
            last = -1
    return over
