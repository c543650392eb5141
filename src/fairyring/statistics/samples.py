"""What every statistic refuses before it computes."""

import math

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import StatisticsError

Floats = npt.NDArray[np.float64]


def sample(name: str, values: npt.ArrayLike, *, least: int = 1) -> Floats:
    """One number a unit of replication as float64 `[n]`; fewer than `least`, or one not finite, is refused."""
    found = array(name, values, axes=1)
    if len(found) < least:
        raise StatisticsError(
            name, given=f"{len(found)} values", expected=f"{least} or more", do="Observe more."
        )
    return found


def array(name: str, values: npt.ArrayLike, *, axes: int, missing: float | None = None) -> Floats:
    """Finite numbers as float64 with so many axes, NaN replaced where it has a meaning; anything else is refused."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise StatisticsError(
            name, given=type(values).__name__, expected=f"numbers, {axes} axes", do="Pass one array."
        ) from None
    if found.ndim != axes:
        raise StatisticsError(
            name, given=f"shape {found.shape}", expected=f"{axes} axes", do="See the shapes in the docstring."
        )
    if missing is not None:
        found = np.where(np.isnan(found), missing, found)
    if not np.isfinite(found).all():
        raise StatisticsError(
            name,
            given=f"{int((~np.isfinite(found)).sum())} values that are not finite",
            expected="finite numbers",
            do="Leave out what has no such number, and say that it was left out.",
        )
    return found


def counts(name: str, values: npt.ArrayLike, *, axes: int) -> Floats:
    """Numbers from 0, as `array` takes them."""
    found = array(name, values, axes=axes)
    if (found < 0.0).any():
        raise StatisticsError(name, given=f"{found.min():g}", expected="numbers from 0", do="Count again.")
    return found


def confidence(given: float) -> float:
    """A confidence, refused outside of `(0, 1)`."""
    if not 0.0 < given < 1.0:
        raise StatisticsError("confidence", given=given, expected="between 0 and 1", do="Give .95 or .99.")
    return float(given)


def resamples(given: int) -> int:
    """A number of resamples, refused below 99: fewer cannot carry a p-value or a quantile of one in a hundred."""
    if not (math.isfinite(given) and int(given) == given and given >= 99):
        raise StatisticsError(
            "resamples", given=given, expected="a whole number from 99", do="Give some thousands."
        )
    return int(given)


def generator(seed: int) -> np.random.Generator:
    """NumPy's generator of a seed; anything but a whole number from 0 is refused, so that a result can be repeated."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise StatisticsError("seed", given=repr(seed), expected="a whole number from 0", do="Give seed=0.")
    return np.random.default_rng(int(seed))
