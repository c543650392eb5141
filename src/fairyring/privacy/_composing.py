"""Epsilon of checked counts of releases: which accountant is asked, and how."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.privacy import _fixed_size, _rdp
from fairyring.privacy.correlated import sensitivity
from fairyring.privacy.participation import AnyParticipation, AtMost, FixedSize, PoissonSampled
from fairyring.privacy.release import Release

_UNSAMPLED = "exact Gaussian, as if not sampled (dp-accounting)"
_LEAST_FOR_PLD = 0.2  # noise multiplier
_MOST_FOR_PLD = 60.0  # epsilon by the quicker bounds
_MOST_FOR_FIXED_SIZE = (
    300.0  # the same: those bounds are several times too large, and this distribution is small
)


def compose(
    counts: Mapping[Release, int], participation: AnyParticipation, delta: float
) -> tuple[float, str]:
    """Epsilon and the accountant's name, of counts that were checked."""
    if not counts:
        return 0.0, "nothing released"
    mechanisms = {one.mechanism for one in counts}
    if "correlated" in mechanisms:
        return _correlated(counts, participation, delta)
    if isinstance(participation, AtMost):
        worst = participation.most(sum(counts.values()))
        if mechanisms == {"gaussian"}:
            return _gaussian(_composed(counts, worst), delta), "exact Gaussian (dp-accounting)"
        rdp = _costliest(counts, worst)
        return _rdp.to_epsilon(_rdp.ORDERS, rdp, delta), f"RDP of {_names(mechanisms)} noise (dp-accounting)"
    if isinstance(participation, FixedSize):
        return _fixed_size_gaussian(counts, participation, delta)
    if mechanisms == {"gaussian"}:
        return _poisson_gaussian(counts, participation.rate, delta)
    return _poisson_renyi(counts, participation.rate, delta)


def _composed(counts: Mapping[Release, int], worst: int | None = None) -> float:
    """The multiplier of the one Gaussian that the `worst` releases with the least noise, or all, compose to."""
    left, inverse_square = math.inf if worst is None else worst, 0.0
    for one, n in sorted(counts.items(), key=lambda item: item[0].multiplier):
        taken = min(n, left)
        inverse_square += taken / one.multiplier**2
        left -= taken
    return inverse_square**-0.5


def _gaussian(multiplier: float, delta: float) -> float:
    """Epsilon of one Gaussian; infinite where it is beyond any use."""
    if multiplier < 1e-4:
        return math.inf
    with np.errstate(
        divide="ignore"
    ):  # far above the root, where dp-accounting only asks on which side it is
        # Above this the formula loses digits; less noise is an upper bound.
        return float(_rdp.dp_accounting().get_epsilon_gaussian(min(multiplier, 1e5), delta))


def _costliest(counts: Mapping[Release, int], worst: int) -> np.ndarray:
    """The sum, at each order, of the `worst` largest divergences: no device can be in releases that add to more."""
    curves = np.stack([_rdp.plain(one) for one in counts])
    order = np.argsort(-curves, axis=0, kind="stable")
    many = np.asarray(list(counts.values()))[order]
    before = np.cumsum(many, axis=0) - many
    taken = np.clip(worst - before, 0, many)
    return (np.take_along_axis(curves, order, axis=0) * taken).sum(axis=0)


def _correlated(
    counts: Mapping[Release, int], participation: AnyParticipation, delta: float
) -> tuple[float, str]:
    if not isinstance(participation, AtMost):
        raise _rdp.refused("correlated", type(participation).__name__, "AtMost")
    if len(counts) > 1:
        raise PlanError(
            "correlated releases",
            given=f"releases of {len(counts)} kinds",
            expected="one multiplier and one number of bands for all rounds: their noise is one draw",
            do="Keep both from the first round to the last.",
        )
    ((one, rounds),) = counts.items()
    moved = sensitivity(rounds, one.bands, participation.most(rounds), participation.separation)
    return _gaussian(one.multiplier / moved, delta), "exact Gaussian of the matrix mechanism (dp-accounting)"


def _poisson_renyi(counts: Mapping[Release, int], rate: float, delta: float) -> tuple[float, str]:
    rdp = sum((_rdp.poisson(one, rate) * n for one, n in counts.items()), np.zeros(()))
    name = _names({one.mechanism for one in counts})
    return _rdp.to_epsilon(_rdp.ORDERS, rdp, delta), f"RDP of Poisson sampled {name} noise (dp-accounting)"


def _poisson_gaussian(counts: Mapping[Release, int], rate: float, delta: float) -> tuple[float, str]:
    """The smallest of three upper bounds; less noise or more releases never turn it down.

    Privacy loss distributions are left out where they would be computed for minutes, in gigabytes, to tell one useless
    epsilon from another. Where they are left out all epsilons are larger than where they are not, for the bounds by
    which that is decided are among the three.
    """
    bounds = [(_gaussian(_composed(counts), delta), _UNSAMPLED), _poisson_renyi(counts, rate, delta)]
    least = min(one.multiplier for one in counts)
    if rate < 1 and least >= _LEAST_FOR_PLD and min(bounds)[0] <= _MOST_FOR_PLD:
        interval = 1e-4 if least >= 0.5 else 1e-3
        bounds.append((_pld(counts, rate, delta, interval), "PLD, pessimistic (dp-accounting)"))
    return min(bounds)


def _fixed_size_gaussian(
    counts: Mapping[Release, int], participation: FixedSize, delta: float
) -> tuple[float, str]:
    """The smallest of three upper bounds, of which the slow one is left out as in `_poisson_gaussian`."""
    bounds = _quick_fixed_size(counts, participation, delta)
    least = min(one.multiplier for one in counts) / 2
    quick = min(bounds)[0]
    sampled = participation.size < participation.population
    if sampled and least >= _LEAST_FOR_PLD and quick <= _MOST_FOR_FIXED_SIZE:
        interval = 1e-4 if least >= 0.5 and quick <= _MOST_FOR_PLD else 1e-3
        found = _fixed_size.epsilon_of(_multipliers(counts), participation, delta, interval)
        bounds.append((found, "PLD of sampling without replacement, pessimistic (dp-accounting)"))
    return min(bounds)


def _quick_fixed_size(
    counts: Mapping[Release, int], participation: FixedSize, delta: float
) -> list[tuple[float, str]]:
    rdp = sum((_rdp.fixed_size(one, participation) * n for one, n in counts.items()), np.zeros(()))
    found = _rdp.to_epsilon(_rdp.FIXED_SIZE_ORDERS, rdp, delta)
    # Half the multiplier: a replaced device moves the sum by twice the clip.
    unsampled = _gaussian(_composed(counts) / 2, delta)
    return [(found, "RDP of sampling without replacement (dp-accounting)"), (unsampled, _UNSAMPLED)]


def _multipliers(counts: Mapping[Release, int]) -> dict[float, int]:
    """Counts by the noise multiplier, which is all that Gaussian releases differ in to an accountant."""
    found: dict[float, int] = {}
    for one, n in counts.items():
        found[one.multiplier] = found.get(one.multiplier, 0) + n
    return found


def rough_epsilon(
    multiplier: float, rounds: int, participation: PoissonSampled | FixedSize, delta: float
) -> float:
    """An upper bound for sampled Gaussian releases in coarser steps than `compose` takes."""
    counts = {Release("gaussian", multiplier): rounds}
    if isinstance(participation, FixedSize):
        rate = participation.size / participation.population
        found, least = min(_quick_fixed_size(counts, participation, delta))[0], multiplier / 2
        most = _MOST_FOR_FIXED_SIZE
    else:
        rate, least, most = participation.rate, multiplier, _MOST_FOR_PLD
        found = min(_gaussian(_composed(counts), delta), _poisson_renyi(counts, rate, delta)[0])
    if rate == 1 or least < _LEAST_FOR_PLD or found > most:
        return found
    # A rare device's losses are small, and lost in wide steps.
    interval = 1e-3 if rate >= 0.003 else 3e-4
    if isinstance(participation, FixedSize):
        return min(found, _fixed_size.epsilon_of({multiplier: rounds}, participation, delta, interval))
    return min(found, _pld(counts, rate, delta, interval))


def _pld(counts: Mapping[Release, int], rate: float, delta: float, interval: float) -> float:
    total: Any = None
    for one, n in counts.items():
        loss = _loss(one.multiplier, rate, interval).self_compose(n)
        total = loss if total is None else total.compose(loss)
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=8)
def _loss(multiplier: float, rate: float, interval: float) -> Any:
    """The privacy loss distribution of one Poisson sampled Gaussian: some megabytes."""
    _rdp.dp_accounting()
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        multiplier, value_discretization_interval=interval, sampling_prob=rate
    )


def _names(mechanisms: set[str]) -> str:
    return " and ".join(sorted(name.replace("_", " ") for name in mechanisms))
