"""Checks of the arguments of all statistics."""

import math

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import StatisticsError

Floats = npt.NDArray[np.float64]


def sample(name: str, values: npt.ArrayLike, *, least: int = 1) -> Floats:
    """One number for each unit of replication, as float64 `[n]`.

    Raises:
        StatisticsError: there are fewer than `least`, or one is not finite.
    """
    numbers = array(name, values, axes=1)
    if len(numbers) < least:
        raise StatisticsError(
            name, given=f"{len(numbers)} values", expected=f"{least} or more", do="Observe more."
        )
    return numbers


def array(name: str, values: npt.ArrayLike, *, axes: int, missing: float | None = None) -> Floats:
    """Finite numbers as a float64 array with so many axes; NaN is replaced by `missing`, if that is given.

    Raises:
        StatisticsError: they are not such numbers.
    """
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise StatisticsError(
            name, given=type(values).__name__, expected=f"numbers, {axes} axes", do="Pass one array."
        ) from None
    if numbers.ndim != axes:
        raise StatisticsError(
            name,
            given=f"shape {numbers.shape}",
            expected=f"{axes} axes",
            do="See the shapes in the docstring.",
        )
    if missing is not None:
        numbers = np.where(np.isnan(numbers), missing, numbers)
    if not np.isfinite(numbers).all():
        raise StatisticsError(
            name,
            given=f"{int((~np.isfinite(numbers)).sum())} values that are not finite",
            expected="finite numbers",
            do="Leave out units without such a number, and report that they were left out.",
        )
    return numbers


def counts(name: str, values: npt.ArrayLike, *, axes: int) -> Floats:
    """Numbers from 0, otherwise as `array`.

    Raises:
        StatisticsError: they are not such numbers.
    """
    numbers = array(name, values, axes=axes)
    if (numbers < 0.0).any():
        raise StatisticsError(name, given=f"{numbers.min():g}", expected="numbers from 0", do="Count again.")
    return numbers


def confidence(given: float) -> float:
    """A confidence in `(0, 1)`.

    Raises:
        StatisticsError: it is outside.
    """
    if not 0.0 < given < 1.0:
        raise StatisticsError("confidence", given=given, expected="between 0 and 1", do="Give .95 or .99.")
    return float(given)


def resamples(given: int) -> int:
    """A number of resamples from 99; fewer cannot give a p-value or a quantile of 1 %.

    Raises:
        StatisticsError: there are fewer, or it is not a whole number.
    """
    if not (math.isfinite(given) and int(given) == given and given >= 99):
        raise StatisticsError(
            "resamples", given=given, expected="a whole number from 99", do="Give some thousands."
        )
    return int(given)


def generator(seed: int) -> np.random.Generator:
    """NumPy's generator for a seed.

    Raises:
        StatisticsError: the seed is not a whole number from 0, so a result could not be reproduced.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise StatisticsError("seed", given=repr(seed), expected="a whole number from 0", do="Give seed=0.")
    return np.random.default_rng(int(seed))
