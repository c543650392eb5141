"""Epsilon of checked counts of rounds: which accountant is used for which releases, and how."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from msgspec.structs import replace

from fairyring.core.errors import PlanError
from fairyring.privacy import _fixed_size, _rdp
from fairyring.privacy.correlated import peak, sensitivity
from fairyring.privacy.participation import AnyParticipation, AtMost, FixedSize, PoissonSampled
from fairyring.privacy.release import Release

_UNSAMPLED = "exact Gaussian, as if not sampled (dp-accounting)"
_MINIMUM_FOR_PLD = 0.2  # noise multiplier
_MAXIMUM_FOR_PLD = 60.0  # epsilon by the quicker bounds
_MAXIMUM_FOR_FIXED_SIZE = (
    300.0  # the same: those bounds are several times too large, and this distribution is small
)


Counts = Mapping[tuple[Release, ...], int]


def compose(counts: Counts, participation: AnyParticipation, delta: float, rounds: int) -> tuple[float, str]:
    """Epsilon and the accountant's name for checked counts of rounds, spread over so many rounds."""
    if not counts:
        return 0.0, "nothing released"
    mechanisms = {one.mechanism for kind in counts for one in kind}
    if "correlated" in mechanisms and not isinstance(participation, AtMost):
        raise _rdp.refused("correlated", type(participation).__name__, "AtMost")
    name = _names(mechanisms)
    if isinstance(participation, AtMost):
        multiplier = equivalent(counts, participation, rounds)
        if multiplier is not None:
            of = " of the matrix mechanism" if "correlated" in mechanisms else ""
            return gaussian_epsilon(multiplier, delta), f"exact Gaussian{of} (dp-accounting)"
        rdp = largest_divergences(counts, participation.maximum(rounds))
        return _rdp.to_epsilon(_rdp.ORDERS, rdp, delta), f"RDP of {name} noise (dp-accounting)"
    counts = _step_by_step(counts)
    if mechanisms == {"gaussian"}:
        return _sampled_gaussians(_merged(counts), participation, delta)
    if isinstance(participation, FixedSize):
        raise _rdp.refused(name, "FixedSize", "PoissonSampled or AtMost")
    return _poisson_renyi(counts, participation.rate, delta)


def equivalent(counts: Counts, participation: AtMost, rounds: int) -> float | None:
    """The multiplier of the single Gaussian release that rounds compose to; None if some noise is not Gaussian."""
    mechanisms = {one.mechanism for kind in counts for one in kind}
    if "correlated" in mechanisms:
        return _matrix(counts, participation, rounds)
    return _composed(_merged(counts), participation.maximum(rounds)) if mechanisms == {"gaussian"} else None


def _sampled_gaussians(
    counts: Mapping[float, int], participation: PoissonSampled | FixedSize, delta: float
) -> tuple[float, str]:
    """Epsilon of sampled rounds, each of which is equivalent to one Gaussian release with its multiplier."""
    if isinstance(participation, FixedSize):
        return _fixed_size_gaussian(counts, participation, delta)
    return _poisson_gaussian(counts, participation.rate, delta)


def _step_by_step(counts: Counts) -> Counts:
    """Counts in which each noisy step is a release of its own: each has its own sample, while releases of a round share one."""
    merged: dict[tuple[Release, ...], int] = {}
    for kind, n in counts.items():
        shared = tuple(one for one in kind if not one.steps)
        alone = [(replace(one, steps=0), one.steps) for one in kind if one.steps]
        for part, times in [((one,), steps) for one, steps in alone] + ([(shared, 1)] if shared else []):
            merged[part] = merged.get(part, 0) + n * times
    return merged


def _merged(counts: Counts) -> dict[float, int]:
    """Rounds by the multiplier of the Gaussian that their releases compose to: a device in one of them is in all."""
    merged: dict[float, int] = {}
    for kind, n in counts.items():
        multiplier = _together([one.multiplier / math.sqrt(max(1, one.steps)) for one in kind])
        merged[multiplier] = merged.get(multiplier, 0) + n
    return merged


def _together(multipliers: list[float]) -> float:
    return multipliers[0] if len(multipliers) == 1 else sum(z**-2 for z in multipliers) ** -0.5


def _composed(counts: Mapping[float, int], worst: int | None = None) -> float:
    """The multiplier of the Gaussian that the `worst` rounds with the least noise compose to; all rounds if None."""
    left, inverse_square = math.inf if worst is None else worst, 0.0
    for multiplier, n in sorted(counts.items()):
        taken = min(n, left)
        inverse_square += taken / multiplier**2
        left -= taken
    return inverse_square**-0.5


def gaussian_epsilon(multiplier: float, delta: float) -> float:
    """Epsilon of one Gaussian release; infinite if it is too large to be of any use."""
    if multiplier < 1e-4:
        return math.inf
    with np.errstate(divide="ignore"):  # far above the root, where dp-accounting only needs the sign
        # Above this the formula loses digits; computing for less noise gives an upper bound.
        return float(_rdp.dp_accounting().get_epsilon_gaussian(min(multiplier, 1e5), delta))


def largest_divergences(counts: Counts, worst: int) -> np.ndarray:
    """At each order, the sum of the `worst` largest divergences: no device can be in rounds that add up to more."""
    curves = np.stack(
        [sum((_rdp.plain(one) * max(1, one.steps) for one in kind), np.zeros(())) for kind in counts]
    )
    order = np.argsort(-curves, axis=0, kind="stable")
    many = np.asarray(list(counts.values()))[order]
    before = np.cumsum(many, axis=0) - many
    taken = np.clip(worst - before, 0, many)
    return (np.take_along_axis(curves, order, axis=0) * taken).sum(axis=0)


def _matrix(counts: Counts, participation: AtMost, rounds: int) -> float:
    kinds = {one for kind in counts for one in kind}
    if len(kinds) > 1:
        raise PlanError(
            "correlated releases",
            given=f"releases of {len(kinds)} kinds",
            expected="one multiplier and one number of bands for all rounds, since their noise is correlated",
            do="Keep both from the first round to the last.",
        )
    (one,) = kinds
    strategy = rounds, one.bands, participation.maximum(rounds), participation.separation
    # A round that was run again releases its row of the strategy a second time, with fresh noise.
    again = sum(n * (len(kind) - 1) for kind, n in counts.items())
    return one.multiplier / math.hypot(sensitivity(*strategy), math.sqrt(again) * peak(*strategy))


def _poisson_renyi(counts: Counts, rate: float, delta: float) -> tuple[float, str]:
    rdp = sum((_rdp.poisson(kind, rate) * n for kind, n in counts.items()), np.zeros(()))
    name = _names({one.mechanism for kind in counts for one in kind})
    return _rdp.to_epsilon(_rdp.ORDERS, rdp, delta), f"RDP of Poisson sampled {name} noise (dp-accounting)"


def _poisson_gaussian(counts: Mapping[float, int], rate: float, delta: float) -> tuple[float, str]:
    """The smallest of three upper bounds; less noise or more releases never make it smaller.

    Privacy loss distributions are left out when they would take minutes and gigabytes just to distinguish useless
    epsilons. That keeps the result monotone: whether to leave them out is decided by the other two bounds.
    """
    releases = {(Release("gaussian", multiplier),): n for multiplier, n in counts.items()}
    bounds = [(gaussian_epsilon(_composed(counts), delta), _UNSAMPLED), _poisson_renyi(releases, rate, delta)]
    smallest = min(counts)
    if rate < 1 and smallest >= _MINIMUM_FOR_PLD and min(bounds)[0] <= _MAXIMUM_FOR_PLD:
        interval = 1e-4 if smallest >= 0.5 else 1e-3
        bounds.append((_pld(counts, rate, delta, interval), "PLD, pessimistic (dp-accounting)"))
    return min(bounds)


def _fixed_size_gaussian(
    counts: Mapping[float, int], participation: FixedSize, delta: float
) -> tuple[float, str]:
    """The smallest of three upper bounds; the slow one is left out as in `_poisson_gaussian`."""
    bounds = _quick_fixed_size(counts, participation, delta)
    smallest = min(counts) / 2
    quick = min(bounds)[0]
    sampled = participation.size < participation.population
    if sampled and smallest >= _MINIMUM_FOR_PLD and quick <= _MAXIMUM_FOR_FIXED_SIZE:
        interval = 1e-4 if smallest >= 0.5 and quick <= _MAXIMUM_FOR_PLD else 1e-3
        epsilon = _fixed_size.epsilon_of(counts, participation, delta, interval)
        bounds.append((epsilon, "PLD of sampling without replacement, pessimistic (dp-accounting)"))
    return min(bounds)


def _quick_fixed_size(
    counts: Mapping[float, int], participation: FixedSize, delta: float
) -> list[tuple[float, str]]:
    rdp = sum((_rdp.fixed_size(one, participation) * n for one, n in counts.items()), np.zeros(()))
    epsilon = _rdp.to_epsilon(_rdp.FIXED_SIZE_ORDERS, rdp, delta)
    # Half the multiplier: replacing a device moves the sum by up to twice the clip norm.
    unsampled = gaussian_epsilon(_composed(counts) / 2, delta)
    return [(epsilon, "RDP of sampling without replacement (dp-accounting)"), (unsampled, _UNSAMPLED)]


def rough_epsilon(
    multiplier: float, rounds: int, participation: PoissonSampled | FixedSize, delta: float
) -> float:
    """An upper bound for sampled Gaussian releases, computed in coarser steps than in `compose`."""
    counts = {multiplier: rounds}
    if isinstance(participation, FixedSize):
        rate = participation.size / participation.population
        epsilon, smallest = min(_quick_fixed_size(counts, participation, delta))[0], multiplier / 2
        maximum = _MAXIMUM_FOR_FIXED_SIZE
    else:
        rate, smallest, maximum = participation.rate, multiplier, _MAXIMUM_FOR_PLD
        releases = {(Release("gaussian", multiplier),): rounds}
        epsilon = min(gaussian_epsilon(_composed(counts), delta), _poisson_renyi(releases, rate, delta)[0])
    if rate == 1 or smallest < _MINIMUM_FOR_PLD or epsilon > maximum:
        return epsilon
    # At low rates, losses are small and would be lost in wide steps.
    interval = 1e-3 if rate >= 0.003 else 3e-4
    if isinstance(participation, FixedSize):
        return min(epsilon, _fixed_size.epsilon_of({multiplier: rounds}, participation, delta, interval))
    return min(epsilon, _pld(counts, rate, delta, interval))


def _pld(counts: Mapping[float, int], rate: float, delta: float, interval: float) -> float:
    return _epsilon(tuple(counts.items()), rate, delta, interval)


@lru_cache(maxsize=1024)  # of what runs of one plan, as in a sweep, ask again
def _epsilon(counts: tuple[tuple[float, int], ...], rate: float, delta: float, interval: float) -> float:
    total: Any = None
    for multiplier, n in counts:
        loss = _loss(multiplier, rate, interval).self_compose(n)
        total = loss if total is None else total.compose(loss)
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=8)
def _loss(multiplier: float, rate: float, interval: float) -> Any:
    """The privacy loss distribution of one Poisson sampled Gaussian; takes some megabytes."""
    _rdp.dp_accounting()
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        multiplier, value_discretization_interval=interval, sampling_prob=rate
    )


def _names(mechanisms: set[str]) -> str:
    return " and ".join(sorted(name.replace("_", " ") for name in mechanisms))
